package postgrestest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/localpostgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(Main(m)) }

func TestURLIsADatabaseOfTheTestsOwn(t *testing.T) {
	t.Parallel()
	var one string
	t.Run("has one", func(t *testing.T) {
		one = URL(t)
		two := URL(t)
		require.NotEqual(t, one, two)
		for _, at := range []string{one, two} {
			conn := connect(t, at)
			require.Equal(t, 0, count(t, conn, "pg_stat_user_tables"))
			_, err := conn.Exec(t.Context(), "CREATE TABLE the_same_name (a int)")
			require.NoError(t, err)
		}
		left, err := pgx.Connect(t.Context(), one) // and not closed before the database is dropped
		require.NoError(t, err)
		t.Cleanup(func() { require.Equal(t, 1, count(t, left, "pg_stat_user_tables")) })
	})
	_, err := pgx.Connect(t.Context(), one)
	require.ErrorContains(t, err, "3D000", "no such database")
}

func TestURLIsInTheServerOfTheEnvironment(t *testing.T) {
	server := Server(t)
	t.Setenv(ServerEnv, server.URL("postgres")+"&application_name=theirs")
	t.Run("has one", func(t *testing.T) {
		at := URL(t)
		require.Equal(t, host(t, server.URL("")), host(t, at))
		require.Contains(t, at, "application_name=theirs")
		require.Equal(t, 1, count(t, connect(t, server.URL("postgres")), "pg_database WHERE datname LIKE 'evdemo_test_%'"))
	})
	require.Equal(t, 0, count(t, connect(t, server.URL("postgres")), "pg_database WHERE datname LIKE 'evdemo_test_%'"))
}

func TestURLFailsWithoutAServer(t *testing.T) {
	t.Setenv(ServerEnv, "") // as each of these is
	server := Server(t)
	require.NoError(t, server.Kill())
	for value, want := range map[string]string{
		server.URL("postgres"):      "this test needs PostgreSQL: failed to connect",
		"amqp://user:secret@there/": "this test needs PostgreSQL: EVDEMO_TEST_POSTGRES: want postgres://",
		"postgres://user:secret@%%": "this test needs PostgreSQL: EVDEMO_TEST_POSTGRES: want postgres://",
	} {
		t.Setenv(ServerEnv, value)
		failed := &recorder{TB: t}
		done := make(chan struct{})
		go func() { // Fatalf ends the goroutine
			defer close(done)
			URL(failed)
		}()
		<-done
		require.Contains(t, failed.message, want)
		require.NotContains(t, failed.message, "secret")
	}
}

// recorder is a test whose failure is looked at.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestClusterIsStartedOnceAndStoppedByMain(t *testing.T) {
	t.Parallel()
	c := &cluster{}
	_, err := c.url(t.Context())
	require.ErrorContains(t, err, "postgrestest.Main")

	var at, dir string
	code := runner{tests: run(func() int {
		at, err = c.url(t.Context())
		require.NoError(t, err)
		again, err := c.url(t.Context())
		require.NoError(t, err)
		require.Equal(t, at, again)
		require.Equal(t, 1, count(t, connect(t, at), "pg_settings WHERE name = 'fsync' AND setting = 'off'"))
		dir = filepath.Dir(c.server.LogFile())
		require.DirExists(t, dir)
		return 7
	}), cluster: c}.Run()
	require.Equal(t, 7, code)
	require.NoDirExists(t, dir)
	_, err = pgx.Connect(t.Context(), at)
	require.Error(t, err)
	_, err = c.url(t.Context())
	require.ErrorContains(t, err, "postgrestest.Main")
}

func TestClusterThatDoesNotStartIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	c := &cluster{err: localpostgres.ErrNotInstalled}
	code := runner{tests: run(func() int {
		_, err := c.url(t.Context())
		require.ErrorIs(t, err, localpostgres.ErrNotInstalled)
		return 1
	}), cluster: c}.Run()
	require.Equal(t, 1, code)
}

type run func() int

func (r run) Run() int { return r() }

// TestServer shows that a server can be stopped, killed and started again, and is removed with its test.
func TestServer(t *testing.T) {
	t.Parallel()
	var at, dir string
	t.Run("has one", func(t *testing.T) {
		server := Server(t, func(c *localpostgres.Config) { c.Settings = []string{"max_connections=17"} })
		at, dir = server.URL("postgres"), filepath.Dir(server.LogFile())
		for _, end := range []func() error{server.Kill, func() error { return server.Stop(t.Context()) }} {
			require.Equal(t, 1, count(t, connect(t, at), "pg_settings WHERE name = 'max_connections' AND setting = '17'"))
			require.NoError(t, end())
			require.DirExists(t, dir)
			require.NoError(t, server.Restart(t.Context()))
		}
	})
	_, err := pgx.Connect(t.Context(), at)
	require.Error(t, err)
	require.NoDirExists(t, dir)
}

// Tests that use an Example's database drop it themselves.
func ExampleDatabase() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	database, drop, err := Database(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var answer int
	fmt.Fprintln(os.Stdout, conn.QueryRow(ctx, "SELECT 6 * 7").Scan(&answer), answer)
	fmt.Fprintln(os.Stdout, conn.Close(ctx), drop(ctx))
	// Output:
	// <nil> 42
	// <nil> <nil>
}

func connect(t *testing.T, at string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), at)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func count(t *testing.T, conn *pgx.Conn, from string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.WithoutCancel(t.Context()), "SELECT count(*) FROM "+from).Scan(&n))
	return n
}

func host(t *testing.T, at string) string {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	return u.Host
}
