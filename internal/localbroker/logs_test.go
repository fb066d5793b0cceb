package localbroker

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	lines, err := Tail(path, 3)
	require.NoError(t, err)
	require.Empty(t, lines)
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"fewer":             {"a\nb\n", []string{"a", "b"}},
		"more":              {"a\nb\nc\nd\n", []string{"b", "c", "d"}},
		"no end of line":    {"a\nb", []string{"a", "b"}},
		"longer than it is": {strings.Repeat("x", tailLimit) + "\na\nb\n", []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.WriteFile(path, []byte(test.content), 0o600))
			lines, err := Tail(path, 3)
			require.NoError(t, err)
			require.Equal(t, test.want, lines)
		})
	}
}

// The server's two outputs share the file, and their lines may come in any order.
func TestLastWordsLeaveErlangsReportsOut(t *testing.T) {
	t.Parallel()
	at := func(second, process, text string) string {
		return "2026-11-25 11:31:" + second + "+00:00 [error] <" + process + "> " + text
	}
	require.Equal(t, []string{"no such key", "BOOT FAILED", "Error during startup", "Kernel pid terminated"}, lastWords([]string{
		"  Starting broker...",
		at("55.481850", "0.132.0", "no such key"),
		at("56.491406", "0.132.0", "    supervisor: {local,rabbit_prelaunch_sup}"),
		"",
		at("56.491406", "0.132.0", "    reason: failed"),
		"BOOT FAILED",
		at("56.491861", "0.130.0", "  crasher:"),
		at("56.491861", "0.130.0", "    pid: <0.130.0>"),
		at("55.485149", "0.132.0", "Error during startup"),
		"===========",
		"Kernel pid terminated",
	}))
}

func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.ErrorIs(t, Follow(t.Context(), nil, path, 1), os.ErrNotExist)
	file := appendTo(t, path, "old\nlast\n")
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Follow(ctx, w, path, 1) }()
	in := bufio.NewReader(r)
	next := func() string {
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, "last\n", next())
	_, err := file.WriteString("new\n")
	require.NoError(t, err)
	require.Equal(t, "new\n", next())

	require.NoError(t, os.Rename(path, path+".0"))
	appendTo(t, path, "rotated\n")
	require.Equal(t, "rotated\n", next())
	cancel()
	require.NoError(t, <-ended)
}

func appendTo(t *testing.T, path, content string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	_, err = file.WriteString(content)
	require.NoError(t, err)
	return file
}
