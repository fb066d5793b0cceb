package eventstore

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is read through an index comes in the index's order: no page sorts what is left of the log, or walks through
// it.
func TestReadsGoByAnIndex(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{DB: filepath.Join(t.TempDir(), "store.db")})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for name, q := range map[string]Query{
		"everything":      {After: 10},
		"stream":          {Stream: "a"},
		"versions":        {Stream: "a", FromVersion: 3, ToVersion: 7, After: 10},
		"type":            {Types: []string{"a"}},
		"types":           {Types: []string{"a", "b", "a", "c"}, After: 10},
		"subject":         {Subject: "a", After: 10},
		"correlation":     {Correlation: "a", After: 10},
		"types in a flow": {Correlation: "a", Types: []string{"a", "b"}},
	} {
		for _, q.Backwards = range []bool{false, true} {
			plan := planOf(t, s, q)
			before := ""
			for line := range strings.Lines(plan) {
				whole := strings.Contains(line, "SCAN evdemo_store_events") && name != "everything"
				assert.False(t, whole, "%s, backwards %v, reads the whole log:\n%s", name, q.Backwards, plan)
				// A page of each branch may be sorted, and the few events with the id of a flow.
				bounded := strings.HasPrefix(before, "SCAN b") || strings.Contains(before, "evdemo_store_events_id")
				sorts := strings.Contains(line, "USE TEMP B-TREE") && !bounded
				assert.False(t, sorts, "%s, backwards %v, sorts:\n%s", name, q.Backwards, plan)
				before = line
			}
		}
	}
}

// planOf is SQLite's plan for a page.
func planOf(t *testing.T, s *Store, q Query) string {
	t.Helper()
	r := reading{store: s, query: q, low: q.After, high: 1000, size: firstPage}
	text, args := r.text(firstPage)
	rows, err := s.database.reads().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan.WriteString(detail + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}
