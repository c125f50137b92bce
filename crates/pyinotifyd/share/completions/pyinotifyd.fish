# Completion of pyinotifyd for fish; goes to /usr/share/fish/vendor_completions.d.

complete -c pyinotifyd -f
complete -c pyinotifyd -s c -l config -d 'Config file' -r -F
complete -c pyinotifyd -s d -l debug -d 'Log at DEBUG, every event included'
complete -c pyinotifyd -l python -d 'Interpreter that executes the config file' -r -F
complete -c pyinotifyd -l dry-run -d 'Log what tasks would do instead of doing it'
complete -c pyinotifyd -l explain -d 'Say what an event on a path would do' -r -F
complete -c pyinotifyd -n 'string match -q -- --explain (commandline -opc)[-2]' -a '(pyinotifyd --list)'
complete -c pyinotifyd -l completions -d 'Print the completion script' -x -a 'bash zsh fish'
complete -c pyinotifyd -s h -l help -d 'Print help'
complete -c pyinotifyd -s i -l install -d 'Install service files and a config file'
complete -c pyinotifyd -s l -l list -d 'List all events'
complete -c pyinotifyd -s t -l configtest -d 'Check the config file'
complete -c pyinotifyd -s u -l uninstall -d 'Remove service files'
complete -c pyinotifyd -s v -l version -d 'Print the version'
