package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/topology"
)

// topologyTest is a run of one topology command.
type topologyTest struct {
	app      *App
	out, err bytes.Buffer
}

func newTopologyTest(t *testing.T) *topologyTest {
	t.Helper()
	tt := &topologyTest{}
	tt.app = &App{
		In: strings.NewReader(""), Out: &tt.out, Err: &tt.err,
		LookupEnv: func(string) (string, bool) { return "", false },
	}
	tt.app.global.addFlags(newTopologyCommand(tt.app).PersistentFlags())
	return tt
}

func (tt *topologyTest) run(t *testing.T, args ...string) error {
	t.Helper()
	tt.out.Reset()
	tt.err.Reset()
	return runTopologyCommand(t, newTopologyCommand(tt.app), args...)
}

func runTopologyCommand(t *testing.T, cmd *cobra.Command, args ...string) error {
	t.Helper()
	cmd.SetArgs(args)
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd.ExecuteContext(t.Context())
}

// topologyFile writes a topology whose names are its own, and removes what is made of it.
func topologyFile(t *testing.T, prefix, spec string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "topology.yaml")
	require.NoError(t, os.WriteFile(path, []byte("prefix: "+prefix+"\n"+spec), 0o600))
	return path
}

func TestTopologyFlags(t *testing.T) {
	t.Parallel()
	tt := newTopologyTest(t)
	tests := map[string]struct {
		build func(look func(*topologyOptions)) *cobra.Command
		other string
	}{
		"show": {func(look func(*topologyOptions)) *cobra.Command {
			return newTopologyShowCommand(tt.app, func(_ context.Context, _ *App, o *topologyOptions) error { look(o); return nil })
		}, "yaml"},
		"plan": {func(look func(*topologyOptions)) *cobra.Command {
			return newTopologyPlanCommand(tt.app, func(_ context.Context, _ *App, o *topologyOptions) error { look(o); return nil })
		}, "json"},
		"apply": {func(look func(*topologyOptions)) *cobra.Command {
			return newTopologyApplyCommand(tt.app, func(_ context.Context, _ *App, o *topologyOptions) error { look(o); return nil })
		}, "json"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got topologyOptions
			build := func() *cobra.Command { return test.build(func(o *topologyOptions) { got = *o }) }
			require.NoError(t, runTopologyCommand(t, build()))
			assert.Empty(t, got.file)
			assert.Equal(t, "table", got.output.value)
			require.NoError(t, runTopologyCommand(t, build(), "-f", "x.yaml", "-o", test.other))
			assert.Equal(t, "x.yaml", got.file)
			assert.Equal(t, test.other, got.output.value)
			require.NoError(t, runTopologyCommand(t, build(), "--topology", "-"))
			assert.Equal(t, "-", got.file)
			require.ErrorContains(t, runTopologyCommand(t, build(), "-o", "xml"), "want table or json")
			require.Error(t, runTopologyCommand(t, build(), "orders"))
		})
	}
}

func TestTopologyGraphFlags(t *testing.T) {
	t.Parallel()
	tt := newTopologyTest(t)
	var got string
	build := func() *cobra.Command {
		return newTopologyGraphCommand(tt.app, func(_ context.Context, _ *App, o *topologyGraphOptions) error {
			got = o.format
			return nil
		})
	}
	require.NoError(t, runTopologyCommand(t, build()))
	assert.Equal(t, "tree", got)
	require.NoError(t, runTopologyCommand(t, build(), "--format", "dot"))
	assert.Equal(t, "dot", got)
	err := runTopologyCommand(t, build(), "--format", "svg")
	require.EqualError(t, err, `--format "svg": want tree, mermaid or dot`)
	assert.Equal(t, exitUsage, exitCode(err))
}

func TestTopologyExportFlags(t *testing.T) {
	t.Parallel()
	tt := newTopologyTest(t)
	var got string
	build := func() *cobra.Command {
		return newTopologyExportCommand(tt.app, func(_ context.Context, _ *App, o *topologyExportOptions) error {
			got = o.vhost
			return nil
		})
	}
	require.NoError(t, runTopologyCommand(t, build()))
	assert.Equal(t, "/", got)
	require.NoError(t, runTopologyCommand(t, build(), "--vhost", "shop"))
	assert.Equal(t, "shop", got)
}

func TestTopologyDeleteAsksOrIsTold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		terminal bool
		args     []string
		want     string
	}{
		"nobody to ask":         {false, nil, "there is no terminal to ask on: give --yes to delete without asking"},
		"nobody, conditions":    {false, []string{"--if-empty", "--if-unused"}, "there is no terminal to ask on: give --yes to delete without asking"},
		"input is the topology": {true, []string{"-f", "-"}, "the topology comes from standard input, so that nobody can be asked: give --yes"},
		"told":                  {false, []string{"--yes", "-f", "-"}, ""},
		"asks":                  {true, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt := newTopologyTest(t)
			tt.app.InTerminal = test.terminal
			ran := false
			err := runTopologyCommand(t, newTopologyDeleteCommand(tt.app, func(context.Context, *App, *topologyDeleteOptions) error {
				ran = true
				return nil
			}), test.args...)
			assert.Equal(t, test.want == "", ran)
			if test.want != "" {
				require.EqualError(t, err, test.want)
				assert.Equal(t, exitUsage, exitCode(err))
			}
		})
	}
}

func TestTopologyWithoutABroker(t *testing.T) {
	t.Parallel()
	tt := newTopologyTest(t)
	require.NoError(t, tt.run(t, "show"))
	assert.Contains(t, tt.out.String(), "payments.retry.30s")
	assert.Contains(t, tt.out.String(), `x-dead-letter-exchange: ""`)

	require.NoError(t, tt.run(t, "show", "-o", "yaml"))
	tt.app.In = bytes.NewReader(bytes.Clone(tt.out.Bytes()))
	require.NoError(t, tt.run(t, "show", "-f", "-", "-o", "json"))
	var resources topology.Resources
	require.NoError(t, json.Unmarshal(tt.out.Bytes(), &resources))
	assert.Len(t, resources.Queues, len(topology.Default().Resources().Queues))

	require.NoError(t, tt.run(t, "graph"))
	assert.Contains(t, tt.out.String(), "└─ queue payments (quorum)")
	require.NoError(t, tt.run(t, "graph", "--format", "mermaid"))
	assert.Contains(t, tt.out.String(), "flowchart LR")
	require.NoError(t, tt.run(t, "graph", "--format", "dot"))
	assert.Contains(t, tt.out.String(), "digraph topology {")

	require.NoError(t, tt.run(t, "export", "--vhost", "shop"))
	assert.True(t, json.Valid(tt.out.Bytes()))
	assert.Contains(t, tt.out.String(), `"vhost": "shop"`)
}

func TestTopologyMistakesAreUsageErrors(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"show", "plan", "apply", "graph", "export"} {
		tt := newTopologyTest(t)
		file := topologyFile(t, "x-", "topics:\n  orders:\n    grups: [email]\n    log: maybe\n")
		err := tt.run(t, command, "-f", file)
		require.ErrorContains(t, err, file+`:4:5: unknown key "grups"; there are log, groups, queues`)
		require.ErrorContains(t, err, file+`:5:10: log is true, false or {max-age: 7d, max-size: 1GB}`)
		assert.Equal(t, exitUsage, exitCode(err), command)

		err = tt.run(t, command, "-f", filepath.Join(t.TempDir(), "missing.yaml"))
		require.ErrorIs(t, err, os.ErrNotExist)
		assert.Equal(t, exitUsage, exitCode(err), command)
	}
}

func TestTopologyOnABroker(t *testing.T) {
	t.Parallel()
	tt := newTopologyTest(t)
	tt.app.global.url = brokertest.URL(t)
	prefix := brokertest.Name(t, "cmd") + "-"
	file := topologyFile(t, prefix, "topics: {orders: {groups: [email]}}\n")
	t.Cleanup(func() {
		c := newTopologyCommand(tt.app)
		c.SetArgs([]string{"delete", "-f", file, "--yes", "-o", "json"})
		require.NoError(t, c.ExecuteContext(context.WithoutCancel(t.Context())))
	})

	require.NoError(t, tt.run(t, "plan", "-f", file))
	assert.Contains(t, tt.out.String(), "9 to create, 0 to keep, 0 to ensure, 0 in conflict\n")
	require.NoError(t, tt.run(t, "apply", "-f", file))
	assert.Contains(t, tt.out.String(), "created queue "+prefix+"orders.email\n")
	assert.Contains(t, tt.out.String(), "9 created, 0 kept, 0 ensured\n")
	require.NoError(t, tt.run(t, "apply", "-f", file, "-o", "json"))
	var report planReport
	require.NoError(t, json.Unmarshal(tt.out.Bytes(), &report))
	assert.Equal(t, []int{0, 7, 2, 0}, []int{report.Create, report.Keep, report.Ensure, report.Conflict})

	other := topologyFile(t, prefix, "topics: {orders: {groups: [email]}}\nqueues: {orders.email: {single-active: true}}\n")
	err := tt.run(t, "plan", "-f", other)
	require.EqualError(t, err, "1 in conflict: keep what is there and take other names, or save what is in it, delete it and apply again")
	assert.Equal(t, exitFailed, exitCode(err))
	assert.Contains(t, tt.out.String(), "x-single-active-consumer is not set, wanted true")
	err = tt.run(t, "apply", "-f", other)
	require.ErrorContains(t, err, "queue "+prefix+"orders.email exists with other arguments: x-single-active-consumer is not set, wanted true; ")
	assert.Equal(t, exitFailed, exitCode(err))

	tt.app.InTerminal = true
	tt.app.In = strings.NewReader("n\n")
	require.EqualError(t, tt.run(t, "delete", "-f", file), "nothing was deleted")
	assert.Contains(t, tt.err.String(), prefix+"orders.email.dlq")
	tt.app.In = strings.NewReader("")
	require.EqualError(t, tt.run(t, "delete", "-f", file), "no answer; nothing was deleted")
	tt.app.In = strings.NewReader("yes\n")
	require.NoError(t, tt.run(t, "delete", "-f", file))
	assert.Contains(t, tt.out.String(), "deleted exchange "+prefix+"orders\n")
	assert.Contains(t, tt.out.String(), "7 deleted\n")
}

func TestTopologyDeleteConditions(t *testing.T) {
	t.Parallel()
	o := &topologyDeleteOptions{}
	assert.Empty(t, o.conditions())
	o.ifEmpty, o.ifUnused = true, true
	assert.Len(t, o.conditions(), 2)
}
