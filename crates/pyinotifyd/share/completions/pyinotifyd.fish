complete --keep-order --exclusive --command pyinotifyd --arguments "(PYINOTIFYD_COMPLETE=fish pyinotifyd -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
