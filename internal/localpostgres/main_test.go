package localpostgres

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// startOne makes the test binary a program that starts a server, as another process than the test.
const startOne = "LOCALPOSTGRES_TEST_START"

func TestMain(m *testing.M) {
	if os.Getenv(startOne) != "" {
		os.Exit(starter())
	}
	goleak.VerifyTestMain(m)
}

// starter starts a server, prints its directory and URL, and leaves it running when its input ends.
func starter() int {
	server, err := Start(context.Background(), Config{NoSync: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, server.dir, server.URL("postgres"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// start starts a server of the test's own.
func start(t *testing.T, c Config) *Server {
	t.Helper()
	server, err := Start(testContext(t), c)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the server's log ends with:", server.lastWords())
		}
		require.NoError(t, server.Kill())
		require.NoError(t, server.Stop(context.Background()))
	})
	return server
}

// directory is one that a server can be started in by root, too: its user could not reach t.TempDir().
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "evdemo-localpostgres-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// open opens a database for the rest of the test.
func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(testContext(t), statement)
	require.NoError(t, err)
}

func query[T any](t *testing.T, db *sql.DB, statement string) T {
	t.Helper()
	var value T
	require.NoError(t, db.QueryRowContext(testContext(t), statement).Scan(&value))
	return value
}

// testContext ends when a test has waited long enough for anything.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition that comes about without the test's doing.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, 20*time.Millisecond, what)
}
