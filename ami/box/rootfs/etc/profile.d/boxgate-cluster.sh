# One line on interactive logins about the box's Kubernetes cluster, if there is one.
case $- in
*i*)
    if [ -r /run/boxgate/cluster ] && read -r _boxgate_cluster </run/boxgate/cluster; then
        case $_boxgate_cluster in
        making) echo 'Kubernetes: your cluster is being made; kubectl works in about a minute' ;;
        starting:*) echo "Kubernetes: ${_boxgate_cluster#*: } is starting" ;;
        ready:*) echo "Kubernetes: ${_boxgate_cluster#*: } is ready" ;;
        stopped:*) echo "Kubernetes: ${_boxgate_cluster#*: } is stopped (docker start NAME-control-plane)" ;;
        failed*) echo 'Kubernetes: the cluster did not come up; why: sudo journalctl -u boxgate-cluster' ;;
        esac
        unset _boxgate_cluster
    fi
    ;;
esac
