package postgres_test

import (
	"context"
	"database/sql"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/worker/inbox"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// withParameter is a URL with one more parameter.
func withParameter(t *testing.T, db, name, value string) string {
	t.Helper()
	u, err := url.Parse(db)
	require.NoError(t, err)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// byStatement handles an event by a statement.
func byStatement(ctx context.Context, statement string, args ...any) error {
	return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

// A function that leaves its session with another search path, or as another role, does not send the records of later
// events elsewhere: another store in the database has tables of the same names.
func TestSessionLeftWithAnotherPath(t *testing.T) {
	t.Parallel()
	base := database(t)
	db := independent(t, base)
	_, err := db.ExecContext(t.Context(), `CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE public.left_effects (id text)`)
	require.NoError(t, err)
	ours, others := withParameter(t, base, "search_path", "a,public"), withParameter(t, base, "search_path", "b,public")
	open(t, postgres.Config{URL: others, MaxConns: 1})
	for _, left := range []string{`SET search_path = b, public`, `SET search_path = pg_catalog`, `SET ROLE pg_monitor`} {
		first, err := postgres.Open(t.Context(), postgres.Config{URL: ours, MaxConns: 1})
		require.NoError(t, err)
		_, err = first.Once(t.Context(), eventKey(1), func(ctx context.Context) error { return byStatement(ctx, left) })
		require.NoError(t, err)
		handle := func(ctx context.Context) error {
			return byStatement(ctx, `INSERT INTO public.left_effects VALUES ($1)`, left)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		key := eventKey(2)
		key.Consumer = left
		called, err := first.Once(ctx, key, handle)
		cancel()
		require.NoError(t, err, left)
		assert.True(t, called, left)
		require.NoError(t, first.Close())
		second := open(t, postgres.Config{URL: ours, MaxConns: 1})
		called, err = second.Once(t.Context(), key, handle)
		require.NoError(t, err)
		assert.False(t, called, "%s: it was handled", left)
		assert.Equal(t, 1, count(t, db, `SELECT count(*) FROM public.left_effects WHERE id = $1`, left))
		_, err = db.ExecContext(t.Context(), `DELETE FROM a.evdemo_inbox_handled WHERE id = $1`, eventKey(1).ID)
		require.NoError(t, err)
	}
}

// Where nothing can be recorded nothing is begun.
func TestReadOnlyBeginsNothing(t *testing.T) {
	t.Parallel()
	base := database(t)
	open(t, postgres.Config{URL: base})
	db := independent(t, base)
	_, err := db.ExecContext(t.Context(), `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	require.NoError(t, err)
	s := open(t, postgres.Config{URL: base, Timeout: time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = s.Once(ctx, eventKey(1), func(context.Context) error {
		t.Error("the event is begun")
		return nil
	})
	require.Error(t, err)
}

// Settings of the user's or the database's that the store cannot do with are its own in its sessions.
func TestOddSettings(t *testing.T) {
	t.Parallel()
	base := database(t)
	for n, setting := range []string{"standard_conforming_strings=off", "client_encoding=LATIN1"} {
		name, value, _ := strings.Cut(setting, "=")
		s := open(t, postgres.Config{URL: withParameter(t, base, name, value)})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		called, err := s.Once(ctx, eventKey(int64(n)), func(ctx context.Context) error { return byStatement(ctx, `SELECT 1`) })
		cancel()
		require.NoError(t, err, setting)
		assert.True(t, called)
	}
}
