package eventstore_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/postgrestest"
)

// A schema that has the user's name is in front of all others. Whoever makes it, and even another store in it, sends
// nobody to other tables who runs already.
func TestSchemaOfTheUser(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	s := open(t, eventstore.Config{DB: db})
	fill(t, s, "a", 5)
	admin := connect(t, db)
	appendsAt := func(position int64) {
		t.Helper()
		appended, err := s.Append(t.Context(), eventstore.StreamWrite{
			Stream: "a", Expect: eventstore.Exactly(position - 1), Events: someEvents(1),
		})
		require.NoError(t, err)
		require.Equal(t, []int64{position}, appended.Positions)
		tx, err := s.DB().BeginTx(t.Context(), nil)
		require.NoError(t, err)
		appended, err = s.AppendTx(t.Context(), tx, eventstore.StreamWrite{Stream: "a", Events: someEvents(1)})
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		require.Equal(t, []int64{position + 1}, appended.Positions)
		require.Len(t, read(t, s), int(position)+1)
	}
	execute(t, admin, `CREATE SCHEMA AUTHORIZATION CURRENT_USER`)
	appendsAt(6)
	for _, existing := range []bool{true, false} { // a process that is started now
		require.Len(t, read(t, open(t, eventstore.Config{DB: db, Existing: existing})), 7)
	}
	var user string
	require.NoError(t, admin.QueryRowContext(t.Context(), `SELECT current_user`).Scan(&user))
	require.Equal(t, 0, tables(t, db, user))

	other := open(t, eventstore.Config{DB: db + "&search_path=" + url.QueryEscape(user)})
	require.Empty(t, read(t, other))
	fill(t, other, "a", 1)
	appendsAt(8)
	execute(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'evdemo'`)
	require.Eventually(t, func() bool { return s.DB().PingContext(t.Context()) == nil }, time.Minute, time.Millisecond)
	appendsAt(10) // by connections that are new
	require.Len(t, read(t, other), 1)
}

// tables counts the store's tables in a schema.
func tables(t *testing.T, db, schema string) (n int) {
	t.Helper()
	const query = `SELECT count(*) FROM pg_tables WHERE tablename LIKE 'evdemo_store_%' AND schemaname = $1`
	require.NoError(t, connect(t, db).QueryRowContext(t.Context(), query, schema).Scan(&n))
	return n
}

// Another program that makes the tables, and has been stopped in the middle, holds nobody up who needs none.
func TestSchemaThatAnotherProgramIsMaking(t *testing.T) {
	t.Parallel()
	db, empty := postgrestest.URL(t), postgrestest.URL(t)
	fill(t, open(t, eventstore.Config{DB: db}), "a", 3)
	for _, db := range []string{db, empty} {
		conn, err := connect(t, db).Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.ExecContext(t.Context(), `SELECT pg_advisory_lock($1)`, 0x6576_6465_6d6f)
		require.NoError(t, err)
	}
	began := time.Now()
	require.Len(t, read(t, open(t, eventstore.Config{DB: db, RetryFor: time.Minute})), 3)
	require.Less(t, time.Since(began), 30*time.Second)
	require.ErrorContains(t, refused(t, eventstore.Config{DB: empty, RetryFor: -1}), "another program")
	require.Equal(t, 0, tables(t, empty, "public"))
}

// A store is found wherever in the search path it is, and none is made in front of it.
func TestSchemaInFront(t *testing.T) {
	t.Parallel()
	db := postgrestest.URL(t)
	fill(t, open(t, eventstore.Config{DB: db}), "a", 3)
	execute(t, connect(t, db), `CREATE SCHEMA shop`)
	for _, existing := range []bool{true, false} {
		s := open(t, eventstore.Config{DB: db + "&search_path=shop,public", Existing: existing})
		require.Len(t, read(t, s), 3)
		require.Equal(t, 0, tables(t, db, "shop"))
	}
	require.ErrorIs(t, refused(t, eventstore.Config{DB: db + "&search_path=shop", Existing: true}), eventstore.ErrNoStore)
	require.Equal(t, 0, tables(t, db, "shop"))
	require.ErrorContains(t, refused(t, eventstore.Config{DB: db + "&search_path=nowhere"}), "no schema of the search path")
}
