# git's own prompt function, loaded when an interactive bash first draws its prompt
# inside a work tree. Until then a walk up the directories, without a new process,
# finds that there is nothing to show.
__git_ps1() {
    local dir=$PWD
    while [[ ! -e $dir/.git ]]; do
        [[ -n $dir && $dir != / ]] || return 0
        dir=${dir%/*}
    done
    unset -f __git_ps1
    if [[ -r /usr/lib/git-core/git-sh-prompt ]]; then
        # shellcheck source=/dev/null
        . /usr/lib/git-core/git-sh-prompt
        __git_ps1 "$@"
    else
        # shellcheck disable=SC2317 # the prompt calls it
        __git_ps1() { :; }
    fi
}
