// Looks names up by Go's resolver; which one is decided when it is compiled. Prints `name address,address` or `name -`.
package main

import (
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func main() {
	for _, name := range os.Args[1:] {
		found, err := net.LookupHost(name)
		sort.Strings(found)
		if err != nil || len(found) == 0 {
			fmt.Println(name, "-")
			continue
		}
		fmt.Println(name, strings.Join(found, ","))
	}
}
