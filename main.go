// Command evdemo publishes, works and listens on RabbitMQ, and shows how that behaves when
// things break.
package main

import (
	"os"

	"github.com/evdemo/evdemo/cmd"
)

func main() {
	os.Exit(cmd.Main(os.Args[1:]))
}
