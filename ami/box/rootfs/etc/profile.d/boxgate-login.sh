# shellcheck shell=sh
# The shell that somebody who logs in at a terminal finds again, and what she is told, a line each. Not for commands, for
# copies, for a window of tmux, nor for a terminal in an IDE: their terminal is not the one that sshd made.
case $-:${SSH_TTY:-} in
*i*:/dev/*)
    if [ "$(tty)" = "$SSH_TTY" ]; then
        # sshd gives a login shell, and nothing else, a name that begins with a hyphen.
        case $0:${BOXGATE_PERSIST:-} in
        -*:)
            if [ -r /etc/boxgate/persist ] && [ -d "${XDG_RUNTIME_DIR:-}" ]; then
                exec /usr/lib/boxgate/persist
            fi
            ;;
        esac
        if [ -r /run/boxgate/cluster ] && read -r _boxgate_line </run/boxgate/cluster; then
            case $_boxgate_line in
            making) echo 'Kubernetes: your cluster is being made; kubectl works in about a minute' ;;
            starting:*) echo "Kubernetes: ${_boxgate_line#*: } is starting" ;;
            ready:*) echo "Kubernetes: ${_boxgate_line#*: } is ready" ;;
            stopped:*) echo "Kubernetes: ${_boxgate_line#*: } is stopped (docker start NAME-control-plane)" ;;
            failed*) echo 'Kubernetes: the cluster did not come up; why: sudo journalctl -u boxgate-cluster' ;;
            esac
        fi
        if [ -e "${XDG_RUNTIME_DIR:-}/boxgate-dotfiles" ]; then
            echo 'Dotfiles: being set up; see ~/.local/state/boxgate/dotfiles.log'
        elif [ -r ~/.local/state/boxgate/dotfiles ] && read -r _boxgate_line <~/.local/state/boxgate/dotfiles; then
            case $_boxgate_line in
            failed*) echo "Dotfiles: ${_boxgate_line#*: }; see ~/.local/state/boxgate/dotfiles.log" ;;
            esac
        fi
        unset _boxgate_line
    fi
    ;;
esac
