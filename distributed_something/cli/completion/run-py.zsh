# Completes the command lines of run.py in zsh, also after `python`. `run.py completion zsh` prints this file.

_run_py_completion() {
    local script=${(Q)words[1]} type value help
    local -a values descriptions
    [[ $script != '~/'* ]] || script=$HOME/${script#'~/'}
    [[ -e $script ]] || script=${commands[$script]}
    # Other programs also have a run.py, which must not be started to complete a word.
    if ! grep -qs 'distributed_something\.cli\.main' -- "$script"; then
        _files
        return
    fi
    local -a program=(python3 $script) # which goes on with the Python in .venv
    [[ ${script:t} == run.py ]] || program=($script)
    while IFS=$'\t' read -r type value help; do
        case $type in
            plain) values+=("$value"); descriptions+=("$value${help:+  -- $help}") ;;
            dir) _files -/ ;;
            file) _files ;;
        esac
    done < <(RUN_PY_WORDS="${(pj:\n:)words}" RUN_PY_WORD_INDEX=$((CURRENT - 1)) \
        _RUN_PY_COMPLETE=words_complete $program 2>/dev/null </dev/null)
    (( ! $#values )) || compadd -l -V run-py -d descriptions -a values
}

# `python run.py` is completed like run.py, everything else as before.
_run_py_python() {
    if (( CURRENT > 2 )) && [[ ${${(Q)words[2]}:t} == run.py ]]; then
        shift words
        (( CURRENT-- ))
        _run_py_completion
    elif (( $+functions[_python] )); then
        _python "$@"
    else
        _files
    fi
}

(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _run_py_completion run.py distributed-something
compdef _run_py_python python python3
