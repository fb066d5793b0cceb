package event_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
)

// requireStable checks what must hold for every event that was read from JSON: it can be written, in
// one line of JSON, and is the same when that is read.
func requireStable(t *testing.T, e event.Event) {
	t.Helper()
	line, err := e.AppendJSON(nil)
	require.NoError(t, err)
	require.True(t, json.Valid(line), "%q", line)
	require.False(t, bytes.ContainsAny(line, "\r\n"), "%q", line)
	var back event.Event
	require.NoError(t, back.UnmarshalJSON(line))
	require.Equal(t, e, back)
}

// requireSDKAccepts checks that the SDK finds valid what we do.
func requireSDKAccepts(t *testing.T, e event.Event) {
	t.Helper()
	theirs := sdk.New()
	theirs.SetID(e.ID)
	theirs.SetSource(e.Source)
	theirs.SetType(e.Type)
	if e.Subject != "" {
		theirs.SetSubject(e.Subject)
	}
	if e.DataContentType != "" {
		theirs.SetDataContentType(e.DataContentType)
	}
	if e.DataSchema != "" {
		theirs.SetDataSchema(e.DataSchema)
	}
	for name, value := range e.Extensions {
		theirs.SetExtension(name, value)
	}
	if theirs.Source() == "" {
		return // net/url writes "//" and the like as nothing
	}
	require.NoError(t, theirs.Validate())
}

func FuzzUnmarshalJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, doc []byte) {
		kept := bytes.Clone(doc)
		var e event.Event
		err := e.UnmarshalJSON(doc)
		require.Equal(t, kept, doc, "the document was written to")
		if err != nil {
			require.Equal(t, event.Event{}, e)
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, json.Valid(bytes.TrimPrefix(doc, []byte("\ufeff"))))
		requireStable(t, e)
	})
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, doc []byte, defaultType string) {
		e, err := event.Parse(doc, event.Defaults{Type: defaultType})
		if err != nil {
			require.Equal(t, event.Event{}, e)
			require.NotEmpty(t, err.Error())
			return
		}
		require.NoError(t, e.Validate())
		require.False(t, e.Time.IsZero())
		requireSDKAccepts(t, e)
		requireStable(t, e)
	})
}

func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, prefix, version, id, source, eventType, at, name, value, contentType, property string, kind uint8, seconds int64, body []byte) {
		var odd any = value
		switch kind % 10 {
		case 1:
			odd = []byte(value)
		case 2:
			odd = seconds
		case 3:
			odd = float64(seconds) / 3
		case 4:
			odd = time.Unix(seconds, 0)
		case 5:
			odd = map[string]any{value: []any{nil, value}}
		case 6:
			odd = nil
		case 7:
			odd = seconds%2 == 0
		case 8:
			odd = int32(seconds)
		}
		e, err := event.Decode(event.Message{
			Headers: map[string]any{
				prefix + "specversion": version, prefix + "id": id, prefix + "source": source, prefix + "type": eventType,
				prefix + "time": at, prefix + name: odd, "x-death": []any{},
			},
			Body: body, MessageID: property, Type: property, AppID: property, CorrelationID: property,
			ContentType: contentType, Timestamp: time.Unix(seconds, 0),
		})
		require.NotEmpty(t, e.ID)
		require.NotEmpty(t, e.Source)
		require.NotEmpty(t, e.Type)
		_, jsonErr := e.MarshalJSON()
		require.NoError(t, jsonErr, "what was decoded can be shown")
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.NoError(t, e.Validate())
		requireSDKAccepts(t, e)
		for _, extension := range e.Extensions {
			if _, ok := extension.(time.Time); ok {
				return // comes back as text
			}
		}
		back, err := event.Decode(e.Encode())
		require.NoError(t, err)
		require.Equal(t, e, back)
	})
}

// FuzzValidate checks that nothing passes Validate that the SDK refuses.
func FuzzValidate(f *testing.F) {
	f.Fuzz(func(t *testing.T, source, text, contentType, schema, name string) {
		e := event.Event{
			ID: text, Source: source, Type: text, Subject: text, DataContentType: contentType, DataSchema: schema,
			Extensions: map[string]any{name: text},
		}
		if e.Validate() == nil {
			requireSDKAccepts(t, e)
			requireStable(t, e)
		}
	})
}
