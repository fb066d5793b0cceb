package eventstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// A file that may not grow is a full disk to SQLite.
func TestFileThatMayNotGrow(t *testing.T) {
	t.Parallel()
	s := open(t, eventstore.Config{DB: file(t)})
	fill(t, s, "a", 10)
	var pages int
	require.NoError(t, s.DB().QueryRowContext(t.Context(), `PRAGMA page_count`).Scan(&pages))
	execute(t, s.DB(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+20))
	large, err := event.New("large", "test", strings.Repeat("x", 300_000))
	require.NoError(t, err)
	all := append(events(t, 3), large)
	_, err = s.Append(t.Context(), eventstore.StreamWrite{Stream: "b", Events: all})
	require.ErrorContains(t, err, "disk full, and nothing of this was written")
	require.Len(t, read(t, s), 10)
	fill(t, s, "a", 1)
	require.Equal(t, int64(11), sound(t, s).Events)
	execute(t, s.DB(), `PRAGMA max_page_count = 1000000`)
	appended, err := s.Append(t.Context(), eventstore.StreamWrite{Stream: "b", Events: all})
	require.NoError(t, err)
	require.Equal(t, 4, appended.Added)
	require.Equal(t, int64(15), sound(t, s).Events)
}
