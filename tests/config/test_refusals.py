"""Each rule, by what breaks it: the key, the line and the words a person gets."""

# ruff: noqa: E501 - the tables of cases read best with a case on each line

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pq_daemon.config.loading import ConfigurationError, Problem, parse
from pq_daemon.config.passwords import hash_password
from tests.config.texts import (
    HASH,
    QUEUE,
    SOURCE,
    only,
    read,
    read_queue,
    refused,
    refused_queue,
    refused_watch,
)

if TYPE_CHECKING:
    from pathlib import Path

WATCH = '[[watch]]\nname = "files"\npath = "in"\n'


def words(problem: Problem) -> str:
    """Leave out the key, which each test looks at itself."""
    return problem.sentence


# --- unknown keys --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "line", "hint"),
    [
        (f'{WATCH}setle = "1s"\n{QUEUE}', "watch.files.setle", 4, 'did you mean "settle"?'),
        ("[daemon]\nworker = 2", "daemon.worker", 2, 'did you mean "workers"?'),
        ("[queue.a]\npython='m:f'\nisolation='loop'\nbackoff={bas='1s'}", "queue.a.backoff.bas", 4, 'did you mean "base"?'),
        ("[store.retention]\nfaild = '1d'", "store.retention.faild", 2, 'did you mean "failed"?'),
        ("[deamon]\nworkers = 2", "deamon", 1, 'did you mean "daemon"?'),
        ("workers = 2", "workers", 1, "workers belongs in [daemon]"),
        ('[daemon]\nsettle = "1s"', "daemon.settle", 2, "settle belongs in [[watch]]"),
        ('[daemon]\njitter = 1', "daemon.jitter", 2, "jitter belongs in backoff of [queue.NAME]"),
        ('[queue.a]\nname = "b"\ncommand = ["true"]', "queue.a.name", 2, "name belongs in [[user]] or [[watch]]"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_the_nearest(
    text: str, key: str, line: int, hint: str
) -> None:
    problem = only(refused(text))
    assert (problem.key, problem.line, problem.kind) == (key, line, "unknown")
    assert problem.hint == hint
    assert words(problem) == f"unknown key; {hint}"


def test_without_a_near_key_all_are_listed() -> None:
    assert "known here: base, factor, max, jitter" in words(
        only(refused_queue("backoff = { zzz = 1 }"))
    )
    assert "[daemon], [store], [server], [[user]]" in words(only(refused("zzz = 1")))


def test_a_password_in_clear_is_not_repeated() -> None:
    text = f'[[user]]\nname = "a"\npassword_hash = "{HASH}"\npassword = "hunter2"'
    problem = only(refused(text))
    assert problem.hint == 'a password is set with "pq passwd NAME"'
    assert "hunter2" not in str(problem)


# --- types and ranges ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "found", "allowed", "hint"),
    [
        ("[daemon]\nworkers = 0", "daemon.workers", "0", '"auto" or a whole number from 1 to 1024', ""),
        ('[daemon]\nworkers = "4"', "daemon.workers", '"4"', '"auto" or a whole number from 1 to 1024', "write 4 without quotes"),
        ("[daemon]\nworkers = true", "daemon.workers", "true", '"auto" or a whole number from 1 to 1024', ""),
        ("[daemon]\nworkers = 4.0", "daemon.workers", "4.0", '"auto" or a whole number from 1 to 1024', ""),
        ('[daemon]\nlog_level = "Info"', "daemon.log_level", '"Info"', '"debug", "info", "warning" or "error"', ""),
        ("[daemon]\nlog_level = 2026-11-24", "daemon.log_level", "2026-11-24", '"debug", "info", "warning" or "error"', ""),
        ("[daemon]\nstate_dir = 5", "daemon.state_dir", "5", "a path in quotes", ""),
        ('[daemon]\nstate_dir = ""', "daemon.state_dir", '""', "a path in quotes", ""),
        ('[daemon]\nstate_dir = "~/pq"', "daemon.state_dir", '"~/pq"', "a path in quotes", "~ is not expanded: write the whole path"),
        ('[daemon]\nstate_dir = "a\\u0000b"', "daemon.state_dir", '"a\\u0000b"', "a path in quotes", "it contains a NUL character"),
        ('[daemon]\nsubmit_roots = "in"', "daemon.submit_roots", '"in"', "a list, each item a path in quotes", 'write ["in"]'),
        ('[daemon]\nsubmit_roots = ["a", 5]', "daemon.submit_roots[2]", "5", "a path in quotes", ""),
        ('[daemon]\nsubmit_roots = ["a", ""]', "daemon.submit_roots[2]", '""', "a path in quotes", ""),
        ("daemon = 5", "daemon", "5", "a table", "write [daemon]"),
        ("[[daemon]]", "daemon", "a list of tables", "a table", "write [daemon]"),
        ("[user]\nname = 'a'", "user", "a table", "tables", "write [[user]] with two brackets, once for each"),
        ("watch = [5]", "watch[1]", "5", "tables", "write [[watch]] with two brackets, once for each"),
        ("[queue]\ncommand = ['true']", "queue.command", '["true"]', "a table for each", "write [queue.NAME]"),
        ("queue = 5", "queue", "5", "a table for each", "write [queue.NAME]"),
        ('[queue."a b"]\ncommand = ["true"]', 'queue."a b"', '"a b"', "1 to 64 letters, digits, '-', '_' or '.', a letter or digit first", ""),
        ('[server]\nlisten = "8501"', "server.listen", '"8501"', 'an address and a port, such as "127.0.0.1:8501" or "[::1]:8501"', ""),
        ('[server]\nallowed_hosts = ["a.b", "http://a.b"]', "server.allowed_hosts[2]", '"http://a.b"', 'a host name such as "files.example.org"', ""),
        (f'[[user]]\nname = " a"\npassword_hash = "{HASH}"', 'user." a".name', '" a"', "1 to 64 printable characters without a space at either end", ""),
        (f'[[user]]\nname = "a"\nrole = "root"\npassword_hash = "{HASH}"', "user.a.role", '"root"', '"viewer", "operator" or "manager"', ""),
    ],
)  # fmt: skip
def test_a_wrong_value(text: str, key: str, found: str, allowed: str, hint: str) -> None:
    problem = only(refused(text))
    assert (problem.key, problem.found, problem.allowed, problem.hint) == (
        key,
        found,
        allowed,
        hint,
    )


@pytest.mark.parametrize(
    "line",
    [
        "concurrency = -1",
        "max_attempts = 0",
        'max_attempts = "5"',
        "backoff = { factor = 0.5 }",
        "backoff = { factor = nan }",
        "backoff = { factor = inf }",
        "backoff = { jitter = 1.1 }",
        "success_codes = [256]",
        "success_codes = [true]",
        "umask = 22",
        'umask = "22"',
        'priority = "Normal"',
        "paused = 1",
        'on_conflict = "overwrite"',
        'isolation = "thread"',
        "env = { A = 1 }",
        'env = ["A=1"]',
        "cwd = 1",
        "python_path = 'lib'",
        "command = []",
        "backoff = '15s'",
        "backoff = 2026-11-24",
    ],
)
def test_a_wrong_value_of_a_queue(line: str) -> None:
    text = f"[queue.files]\n{line}\n" + ("" if "command" in line else 'command = ["true"]\n')
    problem = only(refused(text))
    assert problem.line == 2
    assert problem.key.startswith(f"queue.files.{line.partition(' ')[0]}")


@pytest.mark.parametrize(
    "line",
    ['include = []', 'include = "*.pdf"', "include = [1]", 'min_size = 0', 'existing = "all"', "recursive = 1", 'priority = "now"'],
)  # fmt: skip
def test_a_wrong_value_of_a_watch(line: str) -> None:
    assert only(refused_watch(line)).key.startswith(f"watch.files.{line.partition(' ')[0]}")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        (f'[[watch]]\npath = "in"\nqueue = "files"\n{QUEUE}', "watch[1].name", 1),
        (f'[[watch]]\nname = "files"\n{QUEUE}', "watch.files.path", 1),
        ('[[user]]\nname = "a"', "user.a.password_hash", 1),
        (f'\n[[user]]\npassword_hash = "{HASH}"', "user[1].name", 2),
        ("\n[queue.files]\ntimeout = '1s'", "queue.files", 2),
    ],
)
def test_what_is_missing(text: str, key: str, line: int) -> None:
    problem = only(refused(text))
    assert (problem.key, problem.line, problem.kind) == (key, line, "missing")
    assert words(problem).startswith("missing; needed: ")


def test_a_list_with_two_mistakes_gives_two_problems() -> None:
    assert [p.key for p in refused_queue('success_codes = [0, "1", true]')] == [
        "queue.files.success_codes[2]",
        "queue.files.success_codes[3]",
    ]


def test_a_long_value_is_cut() -> None:
    problem = only(refused(f'[daemon]\nlog_level = "{"x" * 500}"'))
    assert len(problem.found) == 80
    assert problem.found.endswith("…")


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("sha256sum -- {path}", 'write command = ["sha256sum", "--", "{path}"]'),
        ("cp 'a b' {path}", 'write command = ["cp", "a b", "{path}"]'),
        ("it's", 'write command = ["it\'s"]'),
        ("", 'write command = [""]'),
        ("wc {path} | tee {path}.n", 'no shell reads it; write command = ["sh", "-c", "wc \\"$1\\" | tee \\"$1\\".n", "sh", "{path}"]'),
        ("cat '{path}' > {name}", 'no shell reads it; write command = ["sh", "-c", "cat \\"$1\\" > \\"$2\\"", "sh", "{path}", "{name}"]'),
        ("awk '{print}' {path} | wc", 'no shell reads it; write command = ["./your-script", "{path}"]'),
        ("echo 'x {path} y' | wc", 'no shell reads it; write command = ["./your-script", "{path}"]'),
    ],
)  # fmt: skip
def test_a_command_in_one_text_is_refused_with_the_list_to_write(written: str, hint: str) -> None:
    problem = only(refused(f"[queue.files]\ncommand = '''{written}'''"))
    assert (problem.key, problem.line, problem.hint) == ("queue.files.command", 2, hint)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('command = ["true"]\npython = "m:f"\nisolation = "loop"', "queue.q.python"),
        ('python = "m:f"\nisolation = "loop"\ncommand = ["true"]', "queue.q.python"),
    ],
)
def test_a_queue_has_one_handler(lines: str, key: str) -> None:
    problem = only(refused(f"[queue.q]\n{lines}"))
    assert (problem.key, problem.allowed) == (key, "one of command, python and http")
    assert problem.found == "python beside command"


@pytest.mark.parametrize(
    "target", ["", "m", "m:", ":f", "m.f", "m:f:g", "m-n:f", "m:f()", "m..n:f", "1m:f"]
)
def test_a_python_handler_is_a_module_and_a_function(target: str) -> None:
    problem = only(refused(f'[queue.q]\npython = "{target}"\nisolation = "loop"'))
    assert problem.key == "queue.q.python"
    assert problem.allowed == '"module:function", such as "thumbnails:make"'


def test_python_handlers_run_in_processes_unless_told_otherwise() -> None:
    queue = read('[queue.q]\npython = "m.n:f"').queues["q"]
    assert (queue.handler, queue.isolation) == ("python", "process")
    assert read('[queue.q]\npython = "m.n:f"\nisolation = "loop"').queues["q"].isolation == "loop"


def test_an_interpreter_is_a_program_for_processes() -> None:
    python = '[queue.q]\npython = "m:f"\n'
    for written, meant in {
        "python3.12": "python3.12",
        "env/bin/python": "/srv/pq/env/bin/python",
    }.items():
        assert read(f'{python}interpreter = "{written}"').queues["q"].interpreter == meant
    problem = only(refused(f'{python}isolation = "loop"\ninterpreter = "python3"'))
    assert (problem.key, problem.line) == ("queue.q.interpreter", 4)
    assert "runs in the daemon itself" in problem.hint
    problem = only(refused(f'{python}interpreter = "~/python"'))
    assert problem.hint == "~ is not expanded: write the whole path"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://x/",
        "http://",
        "https:///x",
        "https://x y/",
        "http://h:0/",
        "https://ü/",
        "${a b}",
    ],
)
def test_what_is_no_address(url: str) -> None:
    problem = only(refused(f'[queue.q]\nhttp = "{url}"'))
    assert problem.allowed == 'an address such as "https://example.org/take"'


def test_an_http_handler() -> None:
    queue = read('[queue.q]\nhttp = "https://example.org:8443/take?a=b"\nsend = "file"').queues["q"]
    assert (queue.handler, queue.send) == ("http", "file")
    assert only(refused('[queue.q]\nhttp = "https://x/#y"')).hint == "what follows # is never sent"


def test_what_an_http_handler_has_no_use_for() -> None:
    http = '[queue.q]\nhttp = "https://user:secret@example.org/x"\n'
    for line in ('env = { A = "hunter2" }', "nice = 3", 'output = "/x/{stem}"', 'cwd = "/x"'):
        problem = only(refused(http + line))
        assert problem.allowed == "nothing beside http"
        assert "hunter2" not in problem.sentence
    problem = only(refused_queue('send = "file"'))
    assert (problem.key, problem.hint) == ("queue.files.send", "only http sends")


def test_secrets_of_an_http_handler(tmp_path: Path) -> None:
    source = tmp_path / "config.toml"
    http = '[queue.q]\nhttp = "https://example.org/${KEY}"\n'
    problem = only(refused(http, source))
    assert (problem.key, problem.found) == ("queue.q.http", "${KEY}")
    secrets = tmp_path / "secrets"
    secrets.write_text("KEY=hunter2\nHEADER_AUTHORIZATION=Bearer hunter2\n")
    secrets.chmod(0o600)
    with_file = http + 'env_file = "secrets"\n'
    assert read(with_file, source).queues["q"].env_file == secrets
    for line in ("HEADER_HOST=hunter2", "HEADER_X=hunter2\x07", "HEADER_X=hünter2"):
        secrets.write_text(f"KEY=x\n{line}\n")
        problem = only(refused(with_file, source))
        assert problem.key == "queue.q.env_file"
        assert "nter2" not in problem.sentence


def test_what_a_process_may_use() -> None:
    lines = 'memory_limit = "512MiB"\nnice = 10\nio = "idle"'
    queue = read_queue(lines)
    assert (queue.memory_limit, queue.nice, queue.io) == (2**29, 10, "idle")
    assert read_queue('memory_limit = ""').memory_limit is None
    assert only(refused_queue('memory_limit = "0B"')).hint == "it must be more than nothing"
    assert only(refused_queue("nice = -1")).allowed == "a whole number from 0 to 19"
    assert only(refused_queue('io = "realtime"')).allowed == '"normal" or "idle"'


@pytest.mark.parametrize("line", ['memory_limit = "1GiB"', "nice = 5", 'io = "idle"'])
def test_a_function_in_the_loop_has_no_process_to_limit(line: str) -> None:
    problem = only(refused(f'[queue.q]\npython = "m:f"\nisolation = "loop"\n{line}'))
    assert problem.allowed == 'nothing beside isolation = "loop"'
    assert problem.key == f"queue.q.{line.partition(' ')[0]}"
    read(
        '[queue.q]\npython = "m:f"\nisolation = "loop"\nio = "normal"\nnice = 0\nmemory_limit = ""'
    )


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ('command = ["x", "{pth}"]', "queue.q.command[2]", "unknown {pth}; did you mean {path}?"),
        ('command = ["jq", "{print}"]', "queue.q.command[2]", 'a literal brace is written "{{"'),
        ('command = ["x", "{"]', "queue.q.command[2]", '"{" stands alone at character 1'),
        ('command = ["x", "{output}"]', "queue.q.command[2]", "{output} only with output set"),
        ('command = ["x", "a\\u0000"]', "queue.q.command[2]", "without a NUL character"),
        ('command = ["x"]\noutput = "{stm}.pdf"', "queue.q.output", "unknown {stm}; did you mean {stem}?"),
        ('command = ["x"]\noutput = "{output}"', "queue.q.output", "unknown {output}"),
        ('command = ["x"]\noutput = "done/"', "queue.q.output", "the path of a file, not of a directory"),
        ('command = ["x"]\noutput = "~/{stem}"', "queue.q.output", "~ is not expanded"),
        ('command = ["x"]\nenv = { OUT = "{output}" }', "queue.q.env.OUT", "{output} only with output set"),
        ('command = ["x"]\nenv = { A = "\\u0000" }', "queue.q.env.A", "without a NUL character"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_expanded(lines: str, key: str, said: str) -> None:
    problem = only(refused(f"[queue.q]\n{lines}"))
    assert problem.key == key
    assert said in words(problem)


def test_an_unknown_placeholder_is_refused_with_the_known_ones() -> None:
    said = words(only(refused('[queue.q]\ncommand = ["{x}"]')))
    known = (
        "{path} {name} {stem} {suffix} {parent} {relpath} {relparent} {job_id} {attempt} {output}"
    )
    assert f"allowed: {known};" in said


def test_templates_that_can_be_expanded() -> None:
    queue = read_queue('output = "out/{stem}.pdf"\nenv = { OUT = "{output}", J = "{{}}{job_id}" }')
    assert queue.env == {"OUT": "{output}", "J": "{{}}{job_id}"}
    assert read('[queue.q]\ncommand = ["x", "{output}"]\noutput = "/o"').queues["q"].output == "/o"


def test_the_values_of_the_environment_are_never_repeated() -> None:
    lines = 'env = { A = "p{w0rd", B = "s{ecr3t}", C = "x\\u0000hush", D = 12345 }'
    problems = refused_queue(lines)
    assert [p.key for p in problems] == [f"queue.files.env.{name}" for name in "DABC"]
    said = "\n".join(ConfigurationError(SOURCE, tuple(problems)).lines())
    assert not any(secret in said for secret in ["w0rd", "ecr3t", "hush", "12345"])
    assert said.count("(hidden)") == 4


@pytest.mark.parametrize("name", ["", "A=B", "A\\u0000", "PQ_JOB_ID", "PQ_PAYLOAD"])
def test_names_of_the_environment(name: str) -> None:
    assert only(refused_queue(f'env = {{ "{name}" = "x" }}')).key.startswith("queue.files.env.")


def test_handlers_may_have_other_variables_of_pq() -> None:
    assert read_queue('env = { PQ_SOCKET = "/s" }').env == {"PQ_SOCKET": "/s"}


# --- rules between keys --------------------------------------------------------------------------


def test_the_first_delay_is_not_longer_than_the_longest() -> None:
    problem = only(refused_queue('backoff = { base = "2h" }'))
    assert (problem.key, problem.found) == ("queue.files.backoff.base", "base 2h and max 1h")
    assert only(refused_queue('backoff = { max = "1s" }')).key == "queue.files.backoff.max"
    assert read_queue('backoff = { base = "1h" }').backoff.base == 3600


def test_an_exit_status_means_one_thing() -> None:
    problem = only(refused_queue("success_codes = [0, 75]"))
    assert (problem.key, problem.found) == ("queue.files.success_codes", "exit status 75 twice")
    assert problem.hint == "it is in success_codes and in retry_codes"
    assert only(refused_queue("retry_codes = [65]")).key == "queue.files.retry_codes"
    assert read_queue("success_codes = [0, 75]\nretry_codes = []").success_codes == (0, 75)


def test_a_watch_needs_its_queue() -> None:
    problem = only(refused_watch('queue = "fils"'))
    assert (problem.key, problem.line, problem.found) == ("watch.files.queue", 4, '"fils"')
    assert problem.hint == 'there is no [queue.fils]; did you mean "files"?'
    problem = only(refused(WATCH))
    assert (problem.key, problem.line) == ("watch.files.name", 2)
    assert "there is no [queue.files]" in words(problem)


def test_the_queue_of_a_watch_with_other_mistakes_is_checked_too() -> None:
    text = f'[[watch]]\nname = "a"\npath = ""\nqueue = "nope"\n{QUEUE}'
    assert [p.key for p in refused(text)] == ["watch.a.path", "watch.a.queue"]


def test_names_are_given_once() -> None:
    text = f'{WATCH}[[watch]]\nname = "files"\npath = "b"\n{QUEUE}'
    problem = only(refused(text))
    assert (problem.key, problem.line, problem.found) == ("watch[2].name", 5, '"files"')
    user = f'[[user]]\nname = "a"\npassword_hash = "{HASH}"\n'
    assert only(refused(user + user)).key == "user[2].name"


def test_only_one_store_for_now() -> None:
    problem = only(refused('[store]\nurl = "postgresql://pq:secret@db/pq"'))
    assert problem.found == '"postgresql://***@db/pq"'
    assert problem.allowed == 'only "sqlite": anything else is not yet available'


@pytest.mark.parametrize("listen", ["192.168.1.2:8501", "[::]:8501", "files.example.org:8501"])
def test_listening_to_others_comes_later(listen: str) -> None:
    problem = only(refused(f'[server]\nlisten = "{listen}"'))
    assert problem.key == "server.listen"
    assert problem.hint == "any other needs tls_cert or behind_proxy, which are not yet available"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8501", "[::1]:8501", "127.1.2.3:80"])
def test_listening_to_this_machine(listen: str) -> None:
    assert read(f'[server]\nlisten = "{listen}"').server.listen == listen


@pytest.mark.parametrize(
    ("table", "line", "default"),
    [
        ("daemon", 'node = "a"', 'node = ""'),
        ("server", 'tls_cert = "x.pem"', 'tls_cert = ""'),
        ("server", "behind_proxy = true", "behind_proxy = false"),
        ("server", 'public_url = "https://x"', 'public_url = ""'),
        ("server", 'trusted_proxies = ["10.0.0.1"]', "trusted_proxies = []"),
        ("server", "metrics_public = true", "metrics_public = false"),
    ],
)
def test_reserved_keys_may_only_say_their_default(table: str, line: str, default: str) -> None:
    problem = only(refused(f"[{table}]\n{line}"))
    assert problem.key == f"{table}.{line.partition(' ')[0]}"
    assert problem.allowed.endswith("not yet available")
    read(f"[{table}]\n{default}")


def test_a_reserved_key_with_a_wrong_type_says_the_same() -> None:
    assert only(refused("[daemon]\nnode = 5")).allowed == "nothing: it is not yet available"


# --- passwords -----------------------------------------------------------------------------------


def user(password_hash: str) -> str:
    return f'[[user]]\nname = "admin"\npassword_hash = "{password_hash}"\n'


@pytest.mark.parametrize(
    "text", ["", "secret", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$", HASH.replace("$argon2id", "$argon2i")]
)  # fmt: skip
def test_a_password_hash_is_whole_and_never_repeated(text: str) -> None:
    problem = only(refused(user(text)))
    assert (problem.key, problem.found) == ("user.admin.password_hash", "(hidden)")
    assert "pq passwd" in words(problem)


def test_the_demo_password_is_refused_once_others_may_come() -> None:
    exposed = '[server]\nallowed_hosts = ["files.example.org"]\n'
    problem = only(refused(user(HASH) + exposed))
    assert (problem.key, problem.found) == ("user.admin.password_hash", "the demo password")
    assert problem.allowed == "a password of your own, because of server.allowed_hosts"
    assert problem.hint == 'use "pq passwd admin"'
    assert read(user(HASH)).users[0].name == "admin"
    assert read(user(hash_password("correct horse")) + exposed).users[0].name == "admin"


@pytest.mark.parametrize(
    "line", ['tls_cert = "x"', "behind_proxy = true", 'public_url = "https://x"']
)
def test_the_demo_password_is_refused_beside_keys_that_come_later(line: str) -> None:
    found = [p.found for p in refused(f"{user(HASH)}[server]\n{line}\n")]
    assert "the demo password" in found


def test_the_demo_password_is_refused_when_others_can_connect() -> None:
    found = refused(f'{user(HASH)}[server]\nlisten = "192.168.1.2:8501"\n')
    assert [p.key for p in found] == ["user.admin.password_hash", "server.listen"]


# --- all at once ---------------------------------------------------------------------------------


def test_everything_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
[daemon]
worker = 2
drain_timeout = 10
[[watch]]
name = "a"
path = "in"
setle = "1s"
queue = "nope"
on_success = "move:/x"
[queue.b]
command = "true"
backoff = { base = "2h", jitter = 2 }
env = { A = "{nope}" }
"""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, SOURCE)
    problems = caught.value.problems
    assert [(p.line, p.key) for p in problems] == [
        (2, "daemon.worker"),
        (3, "daemon.drain_timeout"),
        (7, "watch.a.setle"),
        (8, "watch.a.queue"),
        (9, "watch.a.on_success"),
        (11, "queue.b.command"),
        (12, "queue.b.backoff.jitter"),
        (12, "queue.b.backoff.base"),
        (13, "queue.b.env.A"),
    ]
    assert caught.value.lines()[0] == (
        '/srv/pq/config.toml:2: daemon.worker: unknown key; did you mean "workers"?'
    )
    assert caught.value.lines()[1] == (
        "/srv/pq/config.toml:3: daemon.drain_timeout: found 10; allowed: a duration such as "
        '"500ms", "10s", "5m", "2h" or "7d"; write "10s" for seconds'
    )
    assert str(caught.value) == f"{caught.value.lines()[0]} (and 8 more)"


def test_a_message_stays_one_line_and_drives_no_terminal() -> None:
    text = '[queue."a\\u001b[31m\\nb"]\ncommand = ["\\u001b]0;x\\u0007{nope}"]\n'
    for line in ConfigurationError(SOURCE, tuple(refused(text))).lines():
        assert line.isprintable()
