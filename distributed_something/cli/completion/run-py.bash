# shellcheck shell=bash
# Completes the command lines of run.py in bash. `run.py completion bash` prints this file.

_run_py_completion() {
    local index word script="" type value takes_path="" IFS=$'\n'
    COMPREPLY=()
    for ((index = 0; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]//[\\\'\"]/} # without quotes
        case $word in
        run.py | */run.py | distributed-something)
            script=$word
            break
            ;;
        esac
    done
    # shellcheck disable=SC2088 # the tilde was typed, so the shell has not expanded it
    [[ $script == "~/"* ]] && script=$HOME/${script:2}
    [[ -e $script ]] || script=$(type -P -- "$script")
    # Other programs also have a run.py, which must not be started to complete a word.
    if ! grep -qs 'distributed_something\.cli\.main' -- "$script"; then
        [[ -z $_run_py_former ]] || "$_run_py_former" "$@"
        return
    fi
    local program=(python3 "$script") # which goes on with the Python in .venv
    [[ $script == */run.py || $script == run.py ]] || program=("$script")
    while IFS=$'\t' read -r type value _; do
        case $type in
        plain) COMPREPLY+=("$(printf %q "$value")") ;;
        file | dir) takes_path=yes ;;
        esac
    done < <(RUN_PY_WORDS="${COMP_WORDS[*]:index}" RUN_PY_WORD_INDEX=$((COMP_CWORD - index)) \
        _RUN_PY_COMPLETE=words_complete "${program[@]}" 2>/dev/null </dev/null)
    # After > and <, every file fits. Before bash 4, and outside of a completion, compopt does not work.
    [[ -n $takes_path || ${COMP_WORDS[COMP_CWORD - 1]} == *[\<\>]* ]] || compopt +o default +o bashdefault 2>/dev/null || true
}

# What completes `python` otherwise, which may first have to be loaded.
if [[ $(type -t _completion_loader) == function ]]; then _completion_loader python >/dev/null 2>&1; fi
_run_py_former=$(complete -p python 2>/dev/null | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
[[ $_run_py_former != _run_py_completion ]] || _run_py_former=""

# If no word fits, bash completes file names, unless the function says otherwise.
complete -o nosort -o bashdefault -o default -F _run_py_completion run.py distributed-something python python3 2>/dev/null ||
    complete -o bashdefault -o default -F _run_py_completion run.py distributed-something python python3 # before bash 4.4
