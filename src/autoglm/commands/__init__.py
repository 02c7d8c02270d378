"""One module per subcommand of ``autoglm``; :mod:`autoglm.cli` only parses."""
