// Looks up by Go's resolver; which one is decided when it is compiled: `host:NAME`, `ptr:ADDRESS`, `srv:NAME`.
// Prints `question answer,answer milliseconds`.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func look(kind, what string) (found []string, err error) {
	switch kind {
	case "ptr":
		return net.LookupAddr(what)
	case "srv":
		_, records, err := net.LookupSRV("", "", what)
		for _, record := range records {
			found = append(found, fmt.Sprintf("%s:%d", record.Target, record.Port))
		}
		return found, err
	}
	return net.LookupHost(what)
}

func main() {
	for _, question := range os.Args[1:] {
		kind, what, _ := strings.Cut(question, ":")
		start := time.Now()
		found, err := look(kind, what)
		if err != nil || len(found) == 0 {
			found = []string{"-"}
		}
		fmt.Println(question, strings.Join(found, ","), time.Since(start).Milliseconds())
	}
}
