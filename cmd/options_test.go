package cmd

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// commandLine is a run of one command line in this process, with an environment of its own.
type commandLine struct {
	app      *App
	out, err bytes.Buffer
}

// newCommandLine has no broker, no profile and nothing to read, but what the environment says.
func newCommandLine(env map[string]string) *commandLine {
	c := &commandLine{}
	c.app = &App{
		In: nil, Out: &c.out, Err: &c.err,
		LookupEnv: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
	}
	return c
}

// run runs the command line and gives its exit code.
func (c *commandLine) run(t *testing.T, args ...string) int {
	t.Helper()
	return Run(t.Context(), c.app, args)
}

// parse runs the command line with a command in place of the one of that name, and gives the exit code.
func (c *commandLine) parse(t *testing.T, command *cobra.Command, args ...string) int {
	t.Helper()
	root := newRootCommand(c.app)
	for _, other := range root.Commands() {
		if other.Name() == command.Name() {
			root.RemoveCommand(other)
		}
	}
	root.AddCommand(command)
	return c.app.run(t.Context(), root, append([]string{command.Name()}, args...))
}

// parsePublish gives what a command line makes of the options of "publish".
func parsePublish(t *testing.T, c *commandLine, args ...string) (*publishOptions, int) {
	t.Helper()
	var got *publishOptions
	code := c.parse(t, newPublishCommand(c.app, func(_ context.Context, _ *App, o *publishOptions) error { got = o; return nil }), args...)
	return got, code
}

func parseWork(t *testing.T, c *commandLine, args ...string) (*workOptions, int) {
	t.Helper()
	var got *workOptions
	code := c.parse(t, newWorkCommand(c.app, func(_ context.Context, _ *App, o *workOptions) error { got = o; return nil }), args...)
	return got, code
}

func parseListen(t *testing.T, c *commandLine, args ...string) (*listenOptions, int) {
	t.Helper()
	var got *listenOptions
	code := c.parse(t, newListenCommand(c.app, func(_ context.Context, _ *App, o *listenOptions) error { got = o; return nil }), args...)
	return got, code
}

// requireMistake is for a command line that must be refused with exit code 2 and a text.
func requireMistake(t *testing.T, c *commandLine, code int, text string) {
	t.Helper()
	require.Equal(t, exitUsage, code, &c.err)
	require.Contains(t, c.err.String(), text)
	require.Equal(t, 1, strings.Count(c.err.String(), "--help' for usage.\n"), &c.err)
	require.Empty(t, c.out.String())
}
