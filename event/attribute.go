package event

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
)

// RFC 3339 has years of four digits: from the first second of 0000 to the last of 9999, in UTC.
const (
	minTime = -62167219200
	maxTime = 253402300799
)

// attributeValue turns v into one of the types that Extensions holds: bool, int32, string, []byte,
// time.Time. A number that is no int32 becomes its decimal text, so that no digit is lost. ok is
// false when v is no attribute value at all, such as a map.
func attributeValue(v any) (value any, ok bool) {
	switch v := v.(type) {
	case nil:
		return nil, false
	case bool, int32, string, []byte:
		return v, true
	case time.Time:
		return v.UTC(), true
	case int:
		return integerValue(int64(v)), true
	case int64:
		return integerValue(v), true
	case uint64:
		if v > math.MaxInt32 {
			return strconv.FormatUint(v, 10), true
		}
		return int32(v), true
	case uint32:
		return integerValue(int64(v)), true
	case float32:
		return floatValue(float64(v), 32), true
	case float64:
		return floatValue(v, 64), true
	}
	// The rest is rare. The SDK knows the smaller integers, URLs, its own types and pointers to
	// any of them. It cuts floats and refuses integers beyond 32 bits, hence the cases above.
	sdkValue, err := types.Validate(v)
	if err != nil {
		return nil, false
	}
	switch v := sdkValue.(type) {
	case types.URI:
		return v.String(), true
	case types.URIRef:
		return v.String(), true
	case types.Timestamp:
		return v.UTC(), true
	default:
		return v, v != nil
	}
}

// integerValue returns n as an int32, or as text where it is none.
func integerValue(n int64) any {
	if n < math.MinInt32 || n > math.MaxInt32 {
		return strconv.FormatInt(n, 10)
	}
	return int32(n)
}

// floatValue returns f as an int32 where it is a whole number of that size, or as the shortest text
// that reads back to it.
func floatValue(f float64, bits int) any {
	if f == math.Trunc(f) && f >= math.MinInt32 && f <= math.MaxInt32 {
		return int32(f)
	}
	return strconv.FormatFloat(f, 'g', -1, bits)
}

// attributeText returns the CloudEvents canonical text of v. ok is false when v is no attribute
// value, or a time that RFC 3339 cannot write.
func attributeText(v any) (text string, ok bool) {
	value, ok := attributeValue(v)
	if !ok {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int32:
		return strconv.Itoa(int(v)), true
	case []byte:
		return base64.StdEncoding.EncodeToString(v), true
	case time.Time:
		return formatTime(v)
	default:
		return "", false
	}
}

// formatTime returns t in UTC as RFC 3339 with as many digits of the second as it has. ok is false
// for a year that RFC 3339 has no digits for.
func formatTime(t time.Time) (text string, ok bool) {
	if !writableTime(t) {
		return "", false
	}
	var buf [len(time.RFC3339Nano)]byte
	return string(t.UTC().AppendFormat(buf[:0], time.RFC3339Nano)), true
}

// writableTime reports whether RFC 3339 can write t in UTC.
func writableTime(t time.Time) bool {
	seconds := t.Unix()
	return seconds >= minTime && seconds <= maxTime
}

// parseTime reads RFC 3339 and returns it in UTC: what the time package takes for it, and letters in
// lower case, which RFC 3339 allows and the time package does not. What could not be written back,
// because its year in UTC has no four digits, is refused. Bytes rather than a string save a copy.
func parseTime(s []byte) (time.Time, bool) {
	var t time.Time
	if err := t.UnmarshalText(s); err != nil {
		if err = t.UnmarshalText(bytes.ToUpper(s)); err != nil {
			return time.Time{}, false
		}
	}
	return t.UTC(), writableTime(t)
}
