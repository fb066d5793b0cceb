package localbroker

import (
	"errors"
	"strings"
)

var (
	// ErrNotInstalled is returned by [Find] and [Start] where there is no rabbitmq-server. The
	// error that wraps it names the command that installs one on this system, and Docker as the
	// other way.
	ErrNotInstalled = errors.New("rabbitmq-server is not installed")

	// ErrNotRunning is returned by [Running] where the directory has no living node.
	ErrNotRunning = errors.New("no RabbitMQ node is running")

	// ErrAlreadyRunning is returned by [Start], together with the node that runs, where the
	// directory has one already.
	ErrAlreadyRunning = errors.New("a RabbitMQ node is running already")

	// ErrPortInUse is returned by [Start] and [Node.Restart] where a port that the node must have
	// is taken by another process.
	ErrPortInUse = errors.New("port is in use")
)

// StartError says that the server was started and did not come up.
type StartError struct {
	// Err is how it ended, or the context's error if that came first.
	Err error
	// Log has the last lines that the server wrote.
	Log []string
	// LogDir has all that it wrote.
	LogDir string
}

func (e *StartError) Error() string {
	var b strings.Builder
	b.WriteString("start RabbitMQ node: " + e.Err.Error())
	for _, line := range e.Log {
		b.WriteString("\n    " + line)
	}
	b.WriteString("\n" + e.advice() + "Its whole log is in " + e.LogDir)
	return b.String()
}

func (e *StartError) Unwrap() error { return e.Err }

// advice is what a person does next about the faults that occur.
func (e *StartError) advice() string {
	log := strings.Join(e.Log, "\n")
	for _, known := range []struct{ sign, advice string }{
		{"eaddrinuse", "Another process has one of the node's ports: stop it, or let the node choose its ports. "},
		{"erl: not found", "Erlang is missing: install it, or put its bin directory on PATH. "},
		{"erl: command not found", "Erlang is missing: install it, or put its bin directory on PATH. "},
		{"Only root or rabbitmq", "This is the system's wrapper script: let EVDEMO_RABBITMQ_SERVER name the server's own, such as /usr/lib/rabbitmq/bin/rabbitmq-server. "},
		{"schema_integrity_check_failed", "Its data is from another version of RabbitMQ: delete the node's directory and start again. "},
		{"incompatible_feature_flags", "Its data is from another version of RabbitMQ: delete the node's directory and start again. "},
		{"enospc", "The disk is full: make room. "},
		{"ermission denied", "The server may not read or write one of its files. "},
	} {
		if strings.Contains(log, known.sign) {
			return known.advice
		}
	}
	return ""
}
