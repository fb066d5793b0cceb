package event

import "github.com/google/uuid"

// NewID returns a fresh event id: a UUID version 7 (RFC 9562) in its usual text form.
//
// Ids of one process sort in the order they were made; ids of several sort by the millisecond of
// their clocks. An index over them therefore grows at its end, but nothing may take their order
// for the order of events across processes.
func NewID() string {
	// Its only error is that of crypto/rand, which ends the process itself before it returns one.
	return uuid.Must(uuid.NewV7()).String()
}
