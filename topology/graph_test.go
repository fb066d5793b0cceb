package topology_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/topology"
)

var update = flag.Bool("update", false, "write the golden files") //nolint:gochecknoglobals // flags are

// drawings are the topologies that have golden files.
func drawings() map[string]topology.Resources {
	odd := topology.Spec{
		Topics: map[string]topology.Topic{
			`a "quoted" <b>&lt;\n#1`: {Queues: []string{"shared"}},
			"refunds":                {Queues: []string{"shared"}, Log: &topology.Log{MaxSize: 50_000_000}},
		},
		Queues: map[string]topology.Queue{
			"alone":  {SingleActive: true},
			"shared": {Retry: noRetry()},
		},
	}
	return map[string]topology.Resources{
		"default": topology.Default().Resources(),
		"odd":     odd.Resources(),
		"group":   topology.Default().GroupResources("events", "audit"),
		"empty":   {},
	}
}

func TestGraphs(t *testing.T) {
	t.Parallel()
	formats := map[string]func(topology.Resources, io.Writer) error{
		"tree": topology.Resources.WriteTree,
		"mmd":  topology.Resources.WriteMermaid,
		"dot":  topology.Resources.WriteDOT,
	}
	for name, resources := range drawings() {
		for format, write := range formats {
			t.Run(name+"."+format, func(t *testing.T) {
				t.Parallel()
				var b bytes.Buffer
				require.NoError(t, write(resources, &b))
				golden(t, name+"."+format, b.Bytes())
			})
		}
	}
}

func TestGraphTellsOfWriteErrors(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	r := topology.Default().Resources()
	require.ErrorIs(t, r.WriteTree(failingWriter{full}), full)
	require.ErrorIs(t, r.WriteMermaid(failingWriter{full}), full)
	require.ErrorIs(t, r.WriteDOT(failingWriter{full}), full)
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	b, err := topology.Default().Resources().Definitions("shop")
	require.NoError(t, err)
	golden(t, "default.definitions.json", b)

	b, err = topology.Resources{Queues: []topology.QueueDef{{Name: "q"}}}.Definitions("/")
	require.NoError(t, err)
	var definitions map[string][]map[string]any
	require.NoError(t, json.Unmarshal(b, &definitions))
	assert.Equal(t, map[string]any{}, definitions["queues"][0]["arguments"], "RabbitMQ does not take null")
	assert.NotNil(t, definitions["exchanges"])
}

// golden compares with a file in testdata, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test ./topology -run %s -update writes it", t.Name())
	assert.Equal(t, string(want), string(got))
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
