package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// storeCommand is "store" with one command that tells what was parsed.
func storeCommand(child *cobra.Command) *cobra.Command {
	parent := &cobra.Command{Use: "store"}
	parent.AddCommand(child)
	return parent
}

func parseStoreAppend(t *testing.T, c *commandLine, args ...string) (*storeAppendOptions, int) {
	t.Helper()
	var got *storeAppendOptions
	command := newStoreAppendCommand(c.app, func(_ context.Context, _ *App, o *storeAppendOptions) error { got = o; return nil })
	code := c.parse(t, storeCommand(command), append([]string{"append"}, args...)...)
	return got, code
}

func TestStoreAppendOptions(t *testing.T) {
	t.Parallel()
	o, code := parseStoreAppend(t, newCommandLine(map[string]string{"EVDEMO_DB": "orders.db"}), "order-1")
	require.Equal(t, exitOK, code)
	assert.Equal(t, "orders.db", o.db)
	assert.Equal(t, "order-1", o.stream)
	assert.Equal(t, eventstore.Any, o.expectation)
	assert.Equal(t, 1000, o.batch)
	assert.Equal(t, 30*time.Second, o.retryFor)
	for text, want := range map[string]eventstore.Expectation{"any": eventstore.Any, "none": eventstore.NoStream, "0": eventstore.NoStream, "7": eventstore.Exactly(7)} {
		o, code := parseStoreAppend(t, newCommandLine(nil), "order-1", "--db", "x.db", "--expect", text)
		require.Equal(t, exitOK, code)
		assert.Equal(t, want, o.expectation)
	}
	c := newCommandLine(nil)
	o, code = parseStoreAppend(t, c, "s", "--db", "x.db", "--retry-for", "0")
	require.Equal(t, exitOK, code)
	assert.Negative(t, o.config(c.app).RetryFor, "not at all, and not the default")
	assert.Equal(t, time.Millisecond, o.config(c.app).BusyTimeout)
}

func TestStoreMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, text string }{
		{"append s", "say which event store: --db orders.db, or --db postgres://"},
		{"append s --db=", "say which event store"},
		{"append s --db x.db --retry-for -1s", "--retry-for -1s: want 0 or more"},
		{"append a b --db x.db", "one stream at most, not 2"},
		{"append --db x.db --type t --data 1", "say which stream: evdemo store append order-1 --type"},
		{"append s --db x.db --data 1", "an event needs a type: give --type with --data"},
		{"append s --db x.db --type t", "--type alone is no event"},
		{"append s --db x.db --data 1 --file f", "give --data or --file, not both"},
		{"append s --db x.db --file=", "--file is empty"},
		{"append s --db x.db --file f --id 1", "--content-type, --id and --extension go with --data"},
		{"append s --db x.db --type t --data 1 --id=", "--id is empty"},
		{"append s --db x.db --type t --data {", "--data is not JSON"},
		{"append s --db x.db --type t --data 1 --extension a", `--extension "a": want NAME=VALUE`},
		{"append s --db x.db --type t --data 1 --extension A=1", "A: is no extension's name"},
		{"append s --db x.db --type t --data 1 --schema=", "--schema is empty"},
		{"append s --db x.db --type t --data 1 --id " + strings.Repeat("x", 1001), "id has 1001 bytes: an event store holds 1000"},
		{"append s --db x.db --expect soon", `--expect "soon": want any, none, or the version`},
		{"append s --db x.db --expect -1", "want any, none, or the version"},
		{"append --db x.db --expect 1", "--expect goes with STREAM"},
		{"append s --db x.db --batch 0", "--batch 0: want 1 to"},
		{"append s --db x.db --atomic --live", "--atomic makes one transaction of all"},
		{"append s --db x.db --atomic --batch 5", "--atomic makes one transaction of all"},
		{"append s --db x.db --type t --data 1 --live", "go with --file"},
		{"append s --db x.db --drain-timeout -1s", "--drain-timeout -1s: want 0 or more"},
		{"append s --db x.db", "say what to append"},
		{"append s --db x.db --file missing.jsonl", "missing.jsonl"},
		{"append s --db x.db --file .", ". is a directory"},
		{"read a b --db x.db", "one stream at most"},
		{"read --db x.db --from-version 1", "versions are those of a stream: name it"},
		{"read s --db x.db --from-version 3 --to-version 2", "--from-version 3 is behind --to-version 2"},
		{"read s --db x.db --after 3 --through 3", "nothing is after 3 and up to 3"},
		{"read --db x.db --after -1", "--after -1: want 0 or more"},
		{"read --db x.db --limit -1", "--limit -1: want 0 or more"},
		{"read --db postgres://u:a@SECRET@127.0.0.1/x", "with special characters in the password percent-encoded"},
		{"read --db u_x:SECRET@127.0.0.1/x", "looks like a login without its scheme"},
		{"read --db x.db --as-of yesterday", `--as-of "yesterday": want a time such as`},
		{"read --db x.db --as-of 2999-01-01T00:00:00Z", "is in the future"},
		{"streams x --db x.db", "did you mean --prefix x?"},
		{"streams --db x.db --limit -1", "--limit -1: want 0 or more"},
		{"state --db x.db", "say which stream: evdemo store state order-1"},
		{"state s --db x.db --at-version 0", "--at-version 0: versions are counted from 1"},
		{"state s --db x.db --at-version 1 --as-of 1h", "give --at-version or --as-of, not both"},
		{"state s --db x.db --snapshots -1", "--snapshots -1: want 0 or more"},
		{"state s --db x.db -o table", "want json or jsonl"},
		{"history --db x.db", "say which stream: evdemo store history order-1"},
		{"history s --db x.db --field customer.name", `--field "customer.name": want a JSON Pointer, which begins with a slash: /customer/name`},
		{"history s --db x.db --who data", `--who "data": want the name of an extension`},
		{"verify x.db", "did you mean --db x.db?"},
		{"follow --db x.db --from 0", "--from 0: positions are counted from 1"},
		{"follow --db x.db --from soon", "or first, last, next, or a position"},
		{"follow --db x.db --from first --after 1", "give --from or --after, not both"},
		{"follow --db x.db --count -1", "--count -1: want 0 or more"},
		{"follow --db x.db --idle-timeout -1s", "--idle-timeout -1s: want 0 or more"},
		{"backup --db x.db", "say where to: evdemo store backup copy.db"},
		{"backup mysql://there --db x.db", `TARGET begins with "mysql:"`},
	}
	for _, test := range tests {
		c := newCommandLine(nil)
		code := c.run(t, append([]string{"store"}, strings.Fields(test.args)...)...)
		require.Equal(t, exitUsage, code, "%s: %s", test.args, &c.err)
		requireMistake(t, c, code, test.text)
	}
	require.NoFileExists(t, "x.db", "nothing was made for any of that")
}

// What was meant as a URL is never a file of that name, and no password of it is said.
func TestStoreDatabaseMistakes(t *testing.T) {
	t.Parallel()
	for db, text := range map[string]string{
		"postgre://u:sEcret@h/d":            `--db begins with "postgre:", which is no database that evdemo knows`,
		"postgres:/u:sEcret@h/d":            `--db begins with "postgres:"`,
		"POSTGRES://u:sEcret@h/d":           `--db begins with "POSTGRES:"`,
		"mysql://u:sEcret@h/d":              `--db begins with "mysql:"`,
		"sqlite:orders.db":                  "want the path of a file alone",
		"file:orders.db?mode=ro":            "want the path of a file alone",
		"user:sEcret@h":                     `--db begins with "user:"`,
		"host=h password=sEcret":            "want postgres://user:password@host:5432/name for PostgreSQL",
		"password=sEcret":                   "want postgres://",
		":memory:":                          "would be gone when the command ends",
		" ":                                 "--db is blank",
		"postgres://u:sEc%ret@h/d":          "--db cannot be read as a URL for PostgreSQL",
		"postgres://u:sEc ret@h/d":          "--db cannot be read as a URL for PostgreSQL",
		"postgres://u:sEcret@h:port/d":      "--db cannot be read as a URL for PostgreSQL",
		"postgres://u:sEcret@h/d?sslmode=x": "--db cannot be read as a URL for PostgreSQL",
	} {
		for _, command := range []string{"append s --type t --data 1", "read", "verify -v"} {
			c := newCommandLine(map[string]string{"EVDEMO_DB": db})
			code := c.run(t, append([]string{"store"}, strings.Fields(command)...)...)
			requireMistake(t, c, code, text)
			assert.NotContains(t, strings.ToLower(c.err.String()), "sec", "%s %q", command, db)
			assert.NotContains(t, c.err.String(), "ret@", "%s %q", command, db)
		}
		require.NoFileExists(t, db)
	}
	require.NoError(t, checkDatabase("--db", "./mysql:x"))
	require.NoError(t, checkDatabase("--db", `C:\orders.db`))
}

type coded int

func (c coded) Error() string { return fmt.Sprintf("code %d", int(c)) }
func (c coded) Code() int     { return int(c) }

func TestStoreExitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		code int
	}{
		{nil, exitOK},
		{&eventstore.ConflictError{Stream: "s", Expected: 1, Actual: 2}, exitClaim},
		{&eventstore.DuplicateError{}, exitIncomplete},
		{eventstore.ErrOutcomeUnknown, exitIncomplete},
		{errors.Join(eventstore.ErrUnavailable, eventstore.ErrOutcomeUnknown), exitUnreachable},
		{eventstore.ErrUnavailable, exitUnreachable},
		{coded(5), exitUnreachable},
		{coded(5 | 2<<8), exitUnreachable},
		{coded(6), exitUnreachable},
		{coded(26), exitUsage},
		{coded(14), exitUsage},
		{coded(13), exitFailed},
		{eventstore.ErrNoStore, exitUsage},
		{eventstore.ErrStreamName, exitUsage},
		{eventstore.ErrNotEmpty, exitUsage},
		{eventstore.ErrNoVersion, exitUsage},
		{eventstore.ErrSchema, exitFailed},
		{&eventstore.DamagedError{Err: eventstore.ErrClosed}, exitFailed},
		{usageErrorf("x"), exitUsage},
	}
	for _, test := range tests {
		var wrapped error
		if test.err != nil {
			wrapped = fmt.Errorf("open: %w", test.err)
		}
		assert.Equal(t, test.code, exitCode(explainStore(wrapped)), "%v", test.err)
	}
	err := explainStore(errors.New("connect:\n\thost 1: refused\n\thost 1: refused\n\thost 2: refused"))
	assert.EqualError(t, err, "connect: host 1: refused; host 2: refused")
}

func TestParseMoment(t *testing.T) {
	t.Parallel()
	at, err := parseMoment("--as-of", "2026-01-02T15:04:05.000001+01:00")
	require.NoError(t, err)
	assert.Equal(t, "2026-01-02T14:04:05.000001Z", moment(at))
	at, err = parseMoment("--as-of", "1h")
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(-time.Hour), at, time.Minute)
}

// An interrupt ends an append behind the batch in hand; what is not there is said, and the same again adds it.
func TestStoreAppendInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "in.jsonl")
	var lines strings.Builder
	for i := range 300 {
		fmt.Fprintf(&lines, `{"id":"%d","type":"t","data":%d}`+"\n", i, i)
	}
	require.NoError(t, os.WriteFile(file, []byte(lines.String()), 0o600))
	args := []string{"store", "append", "s", "--db", filepath.Join(dir, "s.db"), "--file", file, "--batch", "10", "--expect", "none", "-o", "json"}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := newCommandLine(nil)
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: filepath.Join(dir, "s.db")})
	require.NoError(t, err)
	seen := make(chan struct{})
	go func() { // a person who has seen enough
		defer close(seen)
		for _, err := range store.Follow(ctx, eventstore.Query{}) {
			if err == nil {
				stop()
			}
		}
		_ = store.Close()
	}()
	code := Run(ctx, c.app, args)
	stop()
	<-seen
	if code != exitOK { // it was quicker than the interrupt otherwise
		require.Equal(t, exitIncomplete, code, &c.err)
		require.Contains(t, c.err.String(), "the same command again appends them")
	}
	again := newCommandLine(nil)
	require.Equal(t, exitOK, again.run(t, args...), &again.err)
	require.Regexp(t, `"stream":"s","version":300,"position":300,`, again.out.String())
	verify := newCommandLine(nil)
	require.Equal(t, exitOK, verify.run(t, "store", "verify", "--db", filepath.Join(dir, "s.db")), &verify.err)
	require.Contains(t, verify.out.String(), "looked at 300 events in 1 stream")
}

// newPostgres makes an empty database on PostgreSQL, which the variable then names: postgres VARIABLE
func newPostgres(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: postgres VARIABLE")
	}
	database, drop, err := postgrestest.Database(context.Background())
	ts.Check(err)
	ts.Defer(func() { ts.Check(drop(context.Background())) })
	ts.Setenv(args[0], database)
}

// damage runs SQL on a database, with nothing that protects it: damage FILE SQL
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE SQL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	store, err := eventstore.Open(ctx, eventstore.Config{DB: ts.MkAbs(args[0]), Existing: true})
	ts.Check(err)
	defer func() { ts.Check(store.Close()) }()
	_, err = store.DB().ExecContext(ctx, args[1])
	ts.Check(err)
}

// holdLock makes a store and holds its write lock.
func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: path})
	require.NoError(t, err)
	tx, err := store.DB().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	return func() {
		require.NoError(t, tx.Rollback())
		require.NoError(t, store.Close())
	}
}

// A file that another program has locked is waited for, and then it is exit code 4.
func TestStoreLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	release := holdLock(t, path)
	c := newCommandLine(map[string]string{"EVDEMO_DB": path, "EVDEMO_RETRY_FOR": "100ms"})
	require.Equal(t, exitUnreachable, c.run(t, "store", "append", "s", "--type", "t", "--data", "1"), &c.err)
	require.Contains(t, c.err.String(), "locked by another program for too long")
	require.Empty(t, c.out.String())
	read := newCommandLine(map[string]string{"EVDEMO_DB": path})
	require.Equal(t, exitOK, read.run(t, "store", "read"), "who reads need not wait: %s", &read.err)
	patient := newCommandLine(map[string]string{"EVDEMO_DB": path})
	done := make(chan int)
	go func() { done <- patient.run(t, "store", "append", "s", "--type", "t", "--data", "1") }()
	time.AfterFunc(100*time.Millisecond, release)
	require.Equal(t, exitOK, <-done, &patient.err)
}

// A server that goes away is waited for; what was appended before is said, and the same again adds the rest.
func TestStoreServerGone(t *testing.T) {
	t.Parallel()
	server := postgrestest.Server(t)
	t.Run("for too long", func(t *testing.T) { //nolint:paralleltest // one server, which is killed
		c, feed, done := appendLive(t, server.URL("postgres"), "gone", "500ms")
		feed(`{"id":"g1","type":"t","data":1}`)
		awaitEvents(t, server.URL("postgres"), "gone", 1)
		feed(`{"id":"g2","type":"t","data":2}`)
		awaitEvents(t, server.URL("postgres"), "gone", 2) // so the answer for the first has come; that for the second may be lost
		require.NoError(t, server.Kill())
		feed(`{"id":"g3","type":"t","data":3}`)
		require.Equal(t, exitUnreachable, <-done, &c.err)
		require.Regexp(t, `^appended [12]  already there 0  stream gone at version [12] `, c.out.String())
		require.Regexp(t, `events [23] to [23] of the input: .*the database cannot be reached`, c.err.String())
		require.Equal(t, 1, strings.Count(strings.TrimSpace(lastLines(c.err.String(), "evdemo store append:")), "\n")+1, "one sentence: %s", &c.err)
	})
	require.NoError(t, server.Restart(t.Context()))
	t.Run("for a while", func(t *testing.T) { //nolint:paralleltest // as above
		c, feed, done := appendLive(t, server.URL("postgres"), "gone", "1m")
		feed(`{"id":"g1","type":"t","data":1}`)
		feed(`{"id":"g2","type":"t","data":2}`)
		feed(`{"id":"g3","type":"t","data":3}`)
		awaitEvents(t, server.URL("postgres"), "gone", 3)
		require.NoError(t, server.Kill())
		feed(`{"id":"g4","type":"t","data":4}`)
		require.NoError(t, server.Restart(t.Context()))
		feed("")
		require.Equal(t, exitOK, <-done, &c.err)
		require.Regexp(t, `stream gone at version 4  position 4 `, c.out.String())
	})
}

func lastLines(text, from string) string { return text[strings.Index(text, from):] }

// appendLive runs an append that is fed with lines, and an empty one at the end.
func appendLive(t *testing.T, db, stream, retryFor string) (c *commandLine, feed func(string), done <-chan int) {
	t.Helper()
	c = newCommandLine(map[string]string{"EVDEMO_DB": db, "EVDEMO_RETRY_FOR": retryFor})
	in, out := io.Pipe()
	t.Cleanup(func() { _ = out.Close() })
	c.app.In = in
	code := make(chan int, 1)
	go func() { code <- c.run(t, "store", "append", stream, "--live", "-q") }()
	return c, func(line string) {
		if line == "" {
			require.NoError(t, out.Close())
			return
		}
		_, err := io.WriteString(out, line+"\n")
		require.NoError(t, err)
	}, code
}

// awaitEvents waits until a stream has so many events.
func awaitEvents(t *testing.T, db, stream string, events int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	store, err := eventstore.Open(ctx, eventstore.Config{DB: db})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	for _, err := range store.Follow(ctx, eventstore.Query{Stream: stream, Limit: events}) {
		require.NoError(t, err)
	}
}
