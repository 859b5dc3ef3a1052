"""What a queue can run: commands, and async Python functions in the loop; and how they ended."""
