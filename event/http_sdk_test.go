package event_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
)

// plainTextOf draws text that needs no encoding: the SDK (v2.16.2) neither encodes nor decodes the
// values of headers.
func plainTextOf() *rapid.Generator[string] {
	return rapid.StringMatching(`[!#-$&-~]{1,40}`)
}

// What is written here the CloudEvents SDK reads alike, and finds valid.
func TestSDKReadsOurHTTP(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := eventOf().Draw(t, "event")
		e.ID, e.Type = plainTextOf().Draw(t, "plain id"), plainTextOf().Draw(t, "plain type")
		if e.Source = strings.ReplaceAll(e.Source, "%", "-"); e.Subject != "" {
			e.Subject = plainTextOf().Draw(t, "plain subject")
		}
		e.DataSchema = strings.ReplaceAll(e.DataSchema, "%", "-")
		for name, value := range e.Extensions {
			if _, ok := value.(string); ok {
				e.Extensions[name] = plainTextOf().Draw(t, name)
			}
		}
		header, body := e.EncodeHTTP()
		theirs, err := binding.ToEvent(t.Context(), sdkhttp.NewMessage(header, io.NopCloser(bytes.NewReader(body))))
		require.NoError(t, err)
		require.NoError(t, theirs.Validate())
		requireSame(t, e, *theirs)
	})
}

// requireSame checks that two events say the same, but for the types of extensions.
func requireSame(t *rapid.T, ours event.Event, theirs sdk.Event) {
	require.Equal(t,
		[]string{ours.ID, ours.Source, ours.Type, ours.Subject, ours.DataContentType, ours.DataSchema},
		[]string{theirs.ID(), theirs.Source(), theirs.Type(), theirs.Subject(), theirs.DataContentType(), theirs.DataSchema()})
	require.True(t, ours.Time.Equal(theirs.Time()))
	require.Equal(t, string(ours.Data), string(theirs.Data()))
	require.Len(t, theirs.Extensions(), len(ours.Extensions))
	for name, value := range theirs.Extensions() {
		text, err := types.Format(value)
		require.NoError(t, err)
		require.Equal(t, ours.Extension(name), text)
	}
}

// And the other way round, in both modes. What the SDK does not encode is read as it is meant, unless
// it looks as though it were encoded.
func TestWeReadTheSDKsHTTP(t *testing.T) {
	t.Parallel()
	text := textOf().Filter(func(s string) bool {
		return strings.TrimSpace(s) == s && !strings.ContainsAny(s, `%"`) // its setters trim
	})
	rapid.Check(t, func(t *rapid.T) {
		theirs := sdk.New()
		theirs.SetID(text.Draw(t, "id"))
		theirs.SetSource(sourceOf().Filter(func(s string) bool { return !strings.Contains(s, "%") }).Draw(t, "source"))
		theirs.SetType(text.Draw(t, "type"))
		theirs.SetSubject(text.Draw(t, "subject"))
		theirs.SetTime(timeOf().Draw(t, "time"))
		for name, value := range extensionsOf().Draw(t, "extensions") {
			switch v := value.(type) {
			case time.Time:
				value = v.UTC() // the SDK cuts the seconds off the offset, and with them the instant
			case string:
				value = text.Draw(t, name)
			}
			theirs.SetExtension(name, value)
		}
		require.NoError(t, theirs.SetData("application/octet-stream", rapid.SliceOf(rapid.Byte()).Draw(t, "data")))

		ctx := t.Context()
		if rapid.Bool().Draw(t, "structured") {
			ctx = binding.WithForceStructured(ctx)
		}
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
		require.NoError(t, sdkhttp.WriteRequest(ctx, (*binding.EventMessage)(&theirs), request))
		body, err := io.ReadAll(request.Body)
		require.NoError(t, err)
		e, err := event.DecodeHTTP(request.Header, body)
		require.NoError(t, err)
		requireSame(t, e, theirs)
	})
}
