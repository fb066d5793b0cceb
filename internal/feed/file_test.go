package feed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/feed"
)

const (
	goodLine = `{"type":"a","data":1}` + "\n"
	badLine  = "nonsense\n"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestOpenFileChecksEveryLineFirst(t *testing.T) {
	t.Parallel()
	file, err := feed.OpenFile(t.Context(), write(t, strings.Repeat(goodLine+"\n", 3)), event.Defaults{})
	require.NoError(t, err)
	assert.Equal(t, 3, file.Count)
	events, faults := readAll(t, file)
	assert.Len(t, events, 3)
	assert.Empty(t, faults)
	require.NoError(t, file.Close())

	path := write(t, goodLine+badLine+goodLine+`{"data":1}`)
	_, err = feed.OpenFile(t.Context(), path, event.Defaults{})
	require.ErrorContains(t, err, path+":2: not an event in JSON")
	require.ErrorContains(t, err, path+`:4: no "type" and no default type`)
	require.ErrorIs(t, err, event.ErrNoType)
	assert.NotContains(t, err.Error(), "more bad lines")
}

func TestOpenFileChecksRecords(t *testing.T) {
	t.Parallel()
	file, err := feed.OpenFile(t.Context(), write(t, goodLine+`{"raw":{}}`+"\n"+`{"raw":{},"exchange":"x"}`), event.Defaults{})
	require.NoError(t, err)
	assert.Equal(t, 3, file.Count)
	require.NoError(t, file.Close())
	path := write(t, goodLine+`{"raw":{"priority":-1}}`)
	_, err = feed.OpenFile(t.Context(), path, event.Defaults{})
	require.EqualError(t, err, path+":2: invalid record: raw.priority: is no uint8")
}

func TestAtMostTenFaultsAreNamed(t *testing.T) {
	t.Parallel()
	for bad, more := range map[int]string{10: "", 11: "and 1 more bad lines", 25: "and 15 more bad lines"} {
		path := write(t, strings.Repeat(goodLine+badLine, bad))
		_, err := feed.OpenFile(t.Context(), path, event.Defaults{})
		require.Error(t, err)
		assert.Equal(t, min(bad, 10), strings.Count(err.Error(), path+":"))
		assert.Contains(t, err.Error(), fmt.Sprintf("%s:%d: ", path, 20))
		assert.Equal(t, more != "", strings.HasSuffix(err.Error(), "\n"+more) && more != "")
	}
}

func TestOpenFileRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := feed.OpenFile(t.Context(), dir, event.Defaults{})
	require.EqualError(t, err, dir+" is a directory")
	_, err = feed.Stream(t.Context(), dir, event.Defaults{})
	require.EqualError(t, err, dir+" is a directory")
	_, err = feed.OpenFile(t.Context(), filepath.Join(dir, "missing"), event.Defaults{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = feed.Stream(t.Context(), filepath.Join(dir, "missing"), event.Defaults{})
	require.ErrorIs(t, err, os.ErrNotExist)
	file, err := feed.OpenFile(t.Context(), write(t, ""), event.Defaults{})
	require.NoError(t, err, "an empty file has no events, which is no fault")
	assert.Zero(t, file.Count)
	require.NoError(t, file.Close())
}

// TestSpool and what follows look into the directory for temporary files, and so have one of their own.
func TestSpool(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	file, err := feed.Spool(t.Context(), "standard input", iotest.OneByteReader(strings.NewReader(goodLine+goodLine)), event.Defaults{})
	require.NoError(t, err)
	assert.Equal(t, 2, file.Count)
	assert.Len(t, temporary(t), 1)
	events, _ := readAll(t, file)
	assert.Len(t, events, 2)
	require.NoError(t, file.Close())
	assert.Empty(t, temporary(t), "the copy was left")

	_, err = feed.Spool(t.Context(), "standard input", strings.NewReader(goodLine+badLine), event.Defaults{})
	require.ErrorContains(t, err, "standard input:2: ")
	assert.Empty(t, temporary(t), "the copy was left")

	_, err = feed.Spool(t.Context(), "standard input", iotest.ErrReader(errors.New("line is dead")), event.Defaults{})
	require.EqualError(t, err, "keep standard input until it is checked: line is dead")
	assert.Empty(t, temporary(t), "the copy was left")

	ctx, cancel := context.WithCancelCause(t.Context())
	never, _ := io.Pipe()
	cancel(errors.New("told to stop"))
	_, err = feed.Spool(ctx, "standard input", io.MultiReader(strings.NewReader(goodLine), never), event.Defaults{})
	require.EqualError(t, err, "keep standard input until it is checked: told to stop")
	assert.Empty(t, temporary(t), "the copy was left")

	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	_, err = feed.Spool(t.Context(), "standard input", strings.NewReader(goodLine), event.Defaults{})
	require.ErrorContains(t, err, "keep standard input until it is checked: ")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A pipe given as a file can be read only once.
func TestOpenFileOnAPipe(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(path, []byte(strings.Repeat(goodLine, 5000)), 0o600) }()
	file, err := feed.OpenFile(t.Context(), path, event.Defaults{})
	require.NoError(t, err)
	require.NoError(t, <-written)
	assert.Equal(t, 5000, file.Count)
	events, _ := readAll(t, file)
	assert.Len(t, events, 5000)
	require.NoError(t, file.Close())
	assert.Empty(t, temporary(t), "the copy was left")
}

func temporary(t *testing.T) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	return entries
}

func TestStreamChecksNothingBeforehand(t *testing.T) {
	t.Parallel()
	file, err := feed.Stream(t.Context(), write(t, goodLine+badLine+goodLine), event.Defaults{})
	require.NoError(t, err)
	assert.Equal(t, -1, file.Count)
	events, faults := readAll(t, file)
	assert.Len(t, events, 2)
	assert.Len(t, faults, 1)
	require.NoError(t, file.Close())
}

func TestCheckingCanBeInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := feed.OpenFile(ctx, write(t, goodLine), event.Defaults{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestUntilDone(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", 20000)
	require.NoError(t, iotest.TestReader(feed.UntilDone(t.Context(), strings.NewReader(content)), []byte(content)))
	got, err := io.ReadAll(feed.UntilDone(t.Context(), iotest.DataErrReader(strings.NewReader(content))))
	require.NoError(t, err)
	assert.Equal(t, content, string(got))
	_, err = io.ReadAll(feed.UntilDone(t.Context(), iotest.ErrReader(assert.AnError)))
	require.ErrorIs(t, err, assert.AnError)

	ctx, cancel := context.WithCancelCause(t.Context())
	never, writer := io.Pipe()
	reader := feed.UntilDone(ctx, never)
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(reader)
		read <- err
	}()
	_, err = writer.Write([]byte("begun"))
	require.NoError(t, err)
	cancel(assert.AnError)
	require.ErrorIs(t, <-read, assert.AnError)
	_, err = reader.Read(make([]byte, 1))
	require.ErrorIs(t, err, assert.AnError, "and again")
	require.NoError(t, writer.Close(), "which ends the read that was left behind")
}
