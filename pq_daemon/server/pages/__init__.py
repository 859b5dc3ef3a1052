"""The pages: one a file. Rendered whole by the server; modules of web/static only upgrade them."""
