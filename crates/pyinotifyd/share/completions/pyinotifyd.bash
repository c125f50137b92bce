# Completion of pyinotifyd for bash; goes to /usr/share/bash-completion/completions/pyinotifyd.

_pyinotifyd() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    # --config=FILE comes as three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # The event after the path of --explain.
    if [[ ${COMP_WORDS[COMP_CWORD - 2]:-} == --explain && $current != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --list 2>/dev/null)" -- "$current")
        return
    fi
    case $previous in
        -c | --config)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -X '!*.py' -- "$current"; compgen -d -- "$current")
            ;;
        --python | --explain)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            ;;
        --completions)
            mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- "$current")
            ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W '
                -c --completions --config -d --debug --dry-run --explain -h --help -i --install -l --list --python -t --configtest
                -u --uninstall -v --version' -- "$current")
            ;;
    esac
}

complete -F _pyinotifyd pyinotifyd
