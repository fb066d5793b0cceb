package command_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	require.NoError(t, handle(t, script(t, "exit 0"), nil))

	err := handle(t, script(t, "echo first >&2; echo the card has expired >&2; exit 65"), nil)
	assert.True(t, permanent(err))
	assert.Equal(t, 65, commandError(t, err).ExitCode)
	require.EqualError(t, err, "run sh: exit status 65: the card has expired")

	for _, code := range []string{"1", "2", "64", "66", "126", "127", "255"} {
		err := handle(t, script(t, "exit "+code), nil)
		assert.False(t, permanent(err))
		assert.Equal(t, "run sh: exit status "+code, err.Error())
	}
}

func TestDeathBySignal(t *testing.T) {
	t.Parallel()
	for signal, want := range map[string]string{"KILL": "signal: killed", "TERM": "signal: terminated"} {
		err := handle(t, script(t, "echo last words >&2; kill -"+signal+" $$"), nil)
		assert.False(t, permanent(err))
		failure := commandError(t, err)
		assert.Equal(t, -1, failure.ExitCode)
		assert.Equal(t, "last words\n", string(failure.Stderr))
		assert.ErrorContains(t, err, want)
	}
}

// rabbitmq-cli-consumer starts a missing executable for ever (ricbra#27).
func TestAMissingExecutableDoesNotLoopForEver(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	plain := filepath.Join(folder, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600))
	for name, want := range map[string]error{
		"no-such-program-anywhere": exec.ErrNotFound,
		folder + "/missing":        fs.ErrNotExist,
		plain:                      fs.ErrPermission,
	} {
		_, err := command.New(command.Config{Command: name})
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, name)
	}
	_, err := command.New(command.Config{Command: folder})
	require.Error(t, err, "a directory is no program")
}

// What vanishes while a worker runs may come back: its events are tried again.
func TestAnExecutableThatVanishes(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.Symlink("/bin/true", program))
	r := newRunner(t, command.Config{Command: program})
	require.NoError(t, handle(t, r, []byte("1")))
	require.NoError(t, os.Remove(program))
	err := handle(t, r, []byte("1"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.False(t, permanent(err))
	assert.Equal(t, -1, commandError(t, err).ExitCode)
}

func TestNewNamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := command.New(command.Config{Input: "xml", Grace: -time.Second})
	require.ErrorContains(t, err, "command is empty")
	require.ErrorContains(t, err, `input "xml": must be data or cloudevent`)
	require.ErrorContains(t, err, "grace period -1s")
}

func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`a b`:                      {"a", "b"},
		` 'a  b' "c  d" e\ f ''`:   {"a  b", "c  d", "e f", ""},
		`a 'it'"'"'s' "\"q\""`:     {"a", "it's", `"q"`},
		`'|' ";" \& ">x" '<'`:      {"|", ";", "&", ">x", "<"},
		"$HOME ${HOME} $(id) `id`": {"$HOME", "${HOME}", "$(id)", "`id`"},
		`* ~ # é`:                  {"*", "~", "#", "é"},
		"a\nb":                     {"a", "b"},
	} {
		var out bytes.Buffer
		r := newRunner(t, command.Config{Command: `printf '[%s]' ` + line, Stdout: &out})
		require.NoError(t, handle(t, r, nil))
		assert.Equal(t, "["+strings.Join(want, "][")+"]", out.String(), line)
	}
}

// A line for a shell must not run as half of itself.
func TestShellOperatorsAreRefused(t *testing.T) {
	t.Parallel()
	for line, operator := range map[string]string{
		"cat | wc": "|", "true; false": ";", "true && rm x": "&", "true &": "&", "echo a>b": ">", "echo 2>b": ">",
		"cat <b": "<", "| cat": "|", "echo 'a;' | cat": "|", "echo é > b": ">",
	} {
		_, err := command.New(command.Config{Command: line})
		require.ErrorContains(t, err, operator+" is for a shell", line)
		require.ErrorContains(t, err, "use the shell option")
	}
	for _, line := range []string{"echo 'open", `echo "open`, `echo \`, "(true)", "echo )"} {
		_, err := command.New(command.Config{Command: line})
		require.ErrorContains(t, err, "use the shell option", line)
	}
	for _, line := range []string{"", " \t\n", "true\x00", "''"} {
		_, err := command.New(command.Config{Command: line})
		require.Error(t, err, "%q", line)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := newRunner(t, command.Config{Command: `cat | tr a-z A-Z; printf ' %s' "$EVDEMO_TYPE"`, Shell: true, Stdout: &out})
	require.NoError(t, handle(t, r, []byte("abc")))
	assert.Equal(t, "ABC order.created", out.String())
}

func TestCloudEventOnStandardInput(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := newRunner(t, command.Config{Command: "cat", Input: command.InputCloudEvent, Stdout: &out})
	d := delivery(t, []byte(`{ "a": 1.0 }`))
	require.NoError(t, r.Handle(t.Context(), d))
	line, rest, _ := strings.Cut(out.String(), "\n")
	assert.Empty(t, rest)
	var e event.Event
	require.NoError(t, e.UnmarshalJSON([]byte(line)))
	assert.Equal(t, d.Event, e)
}

func TestAnEventThatJSONCannotHold(t *testing.T) {
	t.Parallel()
	d := delivery(t, nil)
	d.Event.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	r := newRunner(t, command.Config{Command: "cat", Input: command.InputCloudEvent})
	err := r.Handle(t.Context(), d)
	assert.True(t, permanent(err))
	var invalid *event.ValidationError
	assert.ErrorAs(t, err, &invalid)
}

// Commands that run at once must not write into each other's lines, nor into a buffer at once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var out, errors bytes.Buffer
	r := newRunner(t, command.Config{Command: `cat; echo "$EVDEMO_ATTEMPT" >&2`, Shell: true, Stdout: &out, Stderr: &errors})
	const n = 40
	results := make(chan error, n)
	for range n {
		d := delivery(t, []byte("\"data\"\n"))
		go func() { results <- r.Handle(t.Context(), d) }()
	}
	for range n {
		require.NoError(t, <-results)
	}
	assert.Equal(t, strings.Repeat("\"data\"\n", n), out.String())
	assert.Equal(t, strings.Repeat("1\n", n), errors.String())
}

// A handler that cannot get rid of its result has not done its work.
func TestAnOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	err := handle(t, newRunner(t, command.Config{Command: "echo x", Stdout: failing{full}}), nil)
	require.ErrorIs(t, err, full)
	assert.False(t, permanent(err))
	err = handle(t, newRunner(t, command.Config{Command: "yes", Stdout: failing{full}}), nil)
	require.ErrorIs(t, err, full)

	r := newRunner(t, command.Config{Command: "echo a >&2; echo b >&2; exit 3", Shell: true, Stderr: failing{full}})
	require.EqualError(t, handle(t, r, nil), "run sh: exit status 3: b")
	r = newRunner(t, command.Config{Command: "echo a >&2", Shell: true, Stderr: failing{full}})
	assert.NoError(t, handle(t, r, nil), "what a command says of its work is not its work")
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A file is the command's own, and needs nobody to copy into it.
func TestAFileIsInherited(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	r := newRunner(t, command.Config{Command: "[ -f /dev/stdout ] || [ -f /proc/self/fd/1 ] && echo a file", Shell: true, Stdout: file})
	require.NoError(t, handle(t, r, nil))
	content, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	assert.Equal(t, "a file\n", string(content))
}

func TestAWorkerCanRunIt(t *testing.T) {
	t.Parallel()
	var handler worker.Handler = script(t, "exit 0").Handle
	require.NoError(t, handler(t.Context(), delivery(t, nil)))
}
