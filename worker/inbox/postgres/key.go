package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/evdemo/evdemo/worker"
)

const (
	// maxColumn is the most that a column of a key holds, in bytes. An index holds a third of a page for the
	// columns of a key together.
	maxColumn = 600
	// digestPrefix is what the columns begin with that stand for what they cannot hold.
	digestPrefix = "sha256:"
)

// column is what a column of a key has for a name: the name itself, unless that is too long or no text for
// PostgreSQL. Different names have different columns.
func column(name string) string {
	if len(name) <= maxColumn && utf8.ValidString(name) && !strings.ContainsRune(name, 0) && !strings.HasPrefix(name, digestPrefix) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return digestPrefix + hex.EncodeToString(sum[:])
}

// columns is a key as the table has it.
func columns(key worker.Key) worker.Key {
	return worker.Key{Consumer: column(key.Consumer), Source: column(key.Source), ID: column(key.ID)}
}

// lockOf gives the number of the advisory lock for what is named. Two names with one number would only wait for
// each other.
func lockOf(names ...string) int64 {
	h := sha256.New()
	var size [8]byte
	for _, name := range names {
		binary.BigEndian.PutUint64(size[:], uint64(len(name)))
		h.Write(size[:])
		h.Write([]byte(name))
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil))) //nolint:gosec // any of them will do
}

// lockOfEvent is held while an attempt at an event is under way.
func lockOfEvent(key worker.Key) int64 {
	return lockOf("evdemo_inbox_handled", key.Consumer, key.Source, key.ID)
}

// lockOfParent is held by whoever asks whether an event was handled, and by whoever says that it was.
func lockOfParent(group, id string) int64 { return lockOf("evdemo_inbox_marks", group, id) }
