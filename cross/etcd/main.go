// The program of the embedded etcd: etcd's own, from its module (`make cross-etcd`).
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
