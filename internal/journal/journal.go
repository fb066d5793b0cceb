// Package journal writes down what an event store has in it as JSON Lines, and reads events of many forms to be
// appended to one.
//
// A recorded event is a line of its own:
//
//	{"position":17,"stream":"order-1","version":3,"recorded_at":"2026-01-02T15:04:05.000001Z","event":{"specversion":"1.0",...}}
//
// The event is in CloudEvents JSON, exact to the byte of its data.
package journal

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
)

// AppendLine appends a recorded event to dst, without a line break at its end, and returns the extended slice. On
// an error dst is returned as it was.
func AppendLine(dst []byte, r eventstore.Recorded) ([]byte, error) {
	stream, err := json.Marshal(r.Stream)
	if err != nil {
		return dst, err
	}
	b := strconv.AppendInt(append(dst, `{"position":`...), r.Position, 10)
	b = append(append(b, `,"stream":`...), stream...)
	b = strconv.AppendInt(append(b, `,"version":`...), r.Version, 10)
	b = r.RecordedAt.UTC().AppendFormat(append(b, `,"recorded_at":"`...), time.RFC3339Nano)
	b, err = appendEvent(append(b, `","event":`...), r.Event)
	if err != nil {
		return dst, err
	}
	return append(b, '}'), nil
}

// appendEvent writes an event. CloudEvents takes data without a content type for JSON of the type
// application/json, unless it is in base64: then it comes back as it is.
func appendEvent(b []byte, e event.Event) ([]byte, error) {
	if len(e.Data) == 0 || e.DataContentType != "" {
		return e.AppendJSON(b)
	}
	payload := e.Data
	e.Data = nil
	b, err := e.AppendJSON(b)
	if err != nil {
		return b, err
	}
	b = append(b[:len(b)-1], `,"data_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, payload)
	return append(b, `"}`...), nil
}
