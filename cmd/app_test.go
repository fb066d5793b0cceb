package cmd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	tests := []struct {
		global globalOptions
		want   []string // which of debug, info and warn are said
		json   bool
	}{
		{globalOptions{}, []string{"info", "warn"}, false},
		{globalOptions{quiet: true}, []string{"warn"}, false},
		{globalOptions{verbose: true, logFormat: "json"}, []string{"debug", "info", "warn"}, true},
	}
	for _, test := range tests {
		c := newCommandLine(nil)
		c.app.global = test.global
		log := c.app.Logger()
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
		lines := strings.Split(strings.TrimSpace(c.err.String()), "\n")
		require.Len(t, lines, len(test.want))
		for i, line := range lines {
			assert.Equal(t, test.json, strings.HasPrefix(line, "{"), line)
			assert.Contains(t, line, test.want[i])
		}
		assert.Empty(t, c.out.String(), "a log is no data")
	}
}

// Input counts as piped where it holds data: a pipe or a file, not a terminal and not /dev/null.
func TestPiped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	open := func(path string) *os.File {
		f, err := os.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = reader.Close(), writer.Close() }()
	closed := open(path)
	require.NoError(t, closed.Close())
	assert.True(t, (&App{In: open(path)}).piped())
	assert.True(t, (&App{In: reader}).piped())
	assert.True(t, (&App{In: strings.NewReader("")}).piped())
	assert.False(t, (&App{In: open(os.DevNull)}).piped())
	assert.False(t, (&App{In: open(t.TempDir())}).piped())
	assert.False(t, (&App{In: closed}).piped())
	assert.False(t, (&App{}).piped())
}

func TestDoctorFlags(t *testing.T) {
	t.Parallel()
	for args, json := range map[string]bool{"": false, "-o table": false, "-o json": true, "--output json": true} {
		c := newCommandLine(nil)
		var got *output
		code := c.parse(t, newDoctorCommand(c.app, func(_ context.Context, _ *App, o *output) error { got = o; return nil }), strings.Fields(args)...)
		require.Equal(t, exitOK, code, &c.err)
		assert.Equal(t, json, got.json())
	}
	for args, text := range map[string]string{"-o xml": "want table or json", "localhost": `unknown command "localhost"`} {
		c := newCommandLine(nil)
		requireMistake(t, c, c.run(t, append([]string{"doctor"}, strings.Fields(args)...)...), text)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	c := newCommandLine(nil)
	require.Equal(t, exitOK, c.run(t, "version"))
	assert.Regexp(t, `^evdemo \S+ go1\.\S+ \w+/\w+\n$`, c.out.String())
	assert.Empty(t, c.err.String())
}

// The same seed makes the same deliveries fail.
func TestChance(t *testing.T) {
	t.Parallel()
	one, same, other := newChance(1), newChance(1), newChance(2)
	differs := false
	for range 100 {
		n := one.float()
		assert.InDelta(t, n, same.float(), 0)
		assert.GreaterOrEqual(t, n, 0.0)
		assert.Less(t, n, 1.0)
		differs = differs || n != other.float()
	}
	assert.True(t, differs)
}
