package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ContentTypeBatch is the content type of the CloudEvents JSON batch format.
const ContentTypeBatch = "application/cloudevents-batch+json"

// AppendBatch appends events in the CloudEvents JSON batch format to dst, an array of what
// [Event.AppendJSON] appends, and returns the extended slice. No events are an empty array. The error names
// the first event that the format cannot hold by its place; dst is returned as it was then.
func AppendBatch(dst []byte, events []Event) ([]byte, error) {
	b := append(dst, '[')
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = e.AppendJSON(b); err != nil {
			return dst, fmt.Errorf("event %d of the batch: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

// ParseBatch reads the CloudEvents JSON batch format, each event as [Event.UnmarshalJSON] reads it: exactly,
// and without a call of Validate. A batch is all or nothing: the error names the first event that cannot be
// read by its place, and no events come with it.
func ParseBatch(b []byte) ([]Event, error) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	var documents []json.RawMessage
	if err := json.Unmarshal(b, &documents); err != nil {
		return nil, fmt.Errorf("not a batch of events in JSON: %w", err)
	}
	if documents == nil { // null
		return nil, errors.New("not a batch of events in JSON: want an array")
	}
	events := make([]Event, len(documents))
	for i, document := range documents {
		if err := events[i].UnmarshalJSON(document); err != nil {
			return nil, fmt.Errorf("event %d of the batch: %w", i, err)
		}
	}
	return events, nil
}
