//! The etcd v3 API over a store, for etcdctl, kube-apiserver and whoever else speaks to etcd.
