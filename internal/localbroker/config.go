package localbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// DefaultNodeName is the Erlang name of a node that was not given another. Nodes may share it:
// each has a port mapper of its own.
const DefaultNodeName = "evdemo@localhost"

// Config says what node to start. Its zero value is a node with nothing in it, on free ports,
// in a temporary directory.
type Config struct {
	// Dir holds all that the node writes, and is created. A node started again in the same
	// directory has its queues and messages, and its ports where they are free. Default: a new
	// temporary directory.
	Dir string
	// Port is the AMQP port. Default: a free one.
	Port int
	// ManagementPort is the port of the management API and its web page. Default: a free one.
	ManagementPort int
	// NodeName is the Erlang name, in the form name@localhost. Its data is kept under this name.
	// Default: DefaultNodeName.
	NodeName string
	// ConfigExtra is appended to the node's rabbitmq.conf, line by line.
	ConfigExtra []string
	// Server is the rabbitmq-server to run. Default: what Find returns.
	Server string
	// Detached lets the node outlive this process. Default: it dies with it.
	Detached bool
	// Logger receives what happens to the node. Default: nothing is logged.
	Logger *slog.Logger
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9_-]+@localhost$`)

// check reports all mistakes together.
func (c Config) check() error {
	var errs []error
	for _, port := range []struct {
		name  string
		value int
	}{{"Port", c.Port}, {"ManagementPort", c.ManagementPort}} {
		if port.value < 0 || port.value > 65535 {
			errs = append(errs, fmt.Errorf("%s %d: want 0 to 65535", port.name, port.value))
		}
	}
	if c.Port != 0 && c.Port == c.ManagementPort {
		errs = append(errs, fmt.Errorf("port %d is wanted twice, for AMQP and for management", c.Port))
	}
	if c.NodeName != "" && !nodeName.MatchString(c.NodeName) {
		errs = append(errs, fmt.Errorf("NodeName %q: want letters, digits, - or _, then @localhost", c.NodeName))
	}
	for _, line := range c.ConfigExtra {
		if strings.ContainsAny(line, "\r\n") {
			errs = append(errs, fmt.Errorf("ConfigExtra %q: want one line each", line))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("localbroker config: %w", err)
	}
	return nil
}

// withDefaults checks the config, fills in its defaults and makes the directory.
func (c Config) withDefaults() (Config, error) {
	if err := c.check(); err != nil {
		return c, err
	}
	if c.NodeName == "" {
		c.NodeName = DefaultNodeName
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.Server == "" {
		c.Server, err = Find()
	} else {
		c.Server, err = named(c.Server)
	}
	if err != nil {
		return c, err
	}
	if c.Dir == "" {
		c.Dir, err = os.MkdirTemp("", "evdemo-node-")
	} else if c.Dir, err = filepath.Abs(c.Dir); err == nil {
		err = os.MkdirAll(c.Dir, 0o700)
	}
	return c, err
}
