// Command coredns is the cluster's DNS server, built here because no image registry is reachable. It has a
// module of its own: its dependencies and those of Kubernetes cannot be met together.
package main

import (
	_ "github.com/coredns/coredns/core/plugin"
	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
