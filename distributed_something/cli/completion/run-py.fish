# Completes the command lines of run.py in fish. `run.py completion fish` prints this file.

# Prints the words before the cursor from run.py on. Fails if this is not the run.py of Distributed-Something: other
# programs also have one, which must not be started to complete a word.
function __run_py_words
    set -l words (commandline -opc)
    while set -q words[1]; and not string match -qr '(^|/)(run\.py|distributed-something)$' -- $words[1]
        set -e words[1]
    end
    set -q words[1]; or return 1
    set words[1] (string replace -r '^~/' "$HOME/" -- $words[1])
    test -e $words[1]; or set words[1] (command -s $words[1]); or return 1
    grep -qs 'distributed_something\.cli\.main' -- $words[1]; or return 1
    printf '%s\n' $words
end

function __run_py_complete
    set -l words (__run_py_words); or return
    set -l current (commandline -ct)
    set -lx RUN_PY_WORDS (string join \n -- $words $current | string collect)
    set -lx RUN_PY_WORD_INDEX (count $words)
    set -lx _RUN_PY_COMPLETE words_complete
    set -l program python3 $words[1] # which goes on with the Python in .venv
    string match -qr '(^|/)run\.py$' -- $words[1]; or set program $words[1]
    for line in ($program 2>/dev/null </dev/null)
        set -l parts (string split \t -- $line)
        switch $parts[1]
            case plain
                # fish hides words that begin with a dot, such as ../files, until one is typed.
                string match -q '.*' -- $parts[2]; and not string match -q '.*' -- $current
                and set parts[2] (realpath $parts[2])
                printf '%s\t%s\n' $parts[2] $parts[3]
            case dir
                __fish_complete_directories $current
            case file
                __fish_complete_path $current
        end
    end
end

for name in run.py distributed-something
    complete --command $name --no-files --keep-order --condition '__run_py_words >/dev/null' --arguments '(__run_py_complete)'
end

# After `python run.py`, what fish completes for python must not be offered, too. Its completions have no condition, so each is
# defined again with one. Before 3.6, fish knows only one condition for each, so both are offered.
for name in python python3
    complete --do-complete "$name " >/dev/null 2>&1 # loads them
    set -l former (complete $name)
    string match -q '*__run_py_words*' -- $former; and continue # this file was read before
    if string match -qr '^(3\.[6-9]|3\.\d\d|[4-9])' -- $version
        complete --command $name --erase
        for definition in $former[-1..1] # fish lists the latest first
            eval $definition --condition "'not __run_py_words >/dev/null'"
        end
    end
    complete --command $name --no-files --keep-order --condition '__run_py_words >/dev/null' --arguments '(__run_py_complete)'
end
