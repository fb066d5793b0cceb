package topology

import (
	"strconv"
	"strings"
)

// maxReplyBytes is how much of its reason a broker sends; it shortens the rest to "...".
const maxReplyBytes = 255

// answer is what a broker says about a declare that does not match what exists: the first
// argument that differs, and its value.
type answer struct {
	argument string
	// have is the value that exists: string, int64, float64 or bool, or nil if it is not set.
	have any
	// unknown says that the value is not in the answer, or not one that can be declared.
	unknown bool
}

// readAnswer reads the reason of a 406. sent gives what was declared for an argument. It says
// false where the reason is not that an argument differs. The wordings are those of RabbitMQ
// since 3.8 (rabbit_misc:assert_field_equivalence):
//
//	inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'
//	... received none but current is the value '20' of type 'long'
//	... received the value '20' of type 'long' but current is none
func readAnswer(reason string, kind Kind, name string, sent func(argument string) any) (answer, bool) {
	_, rest, ok := strings.Cut(reason, "inequivalent arg '")
	if !ok {
		return answer{}, false
	}
	argument, rest, ok := strings.Cut(rest, "' for "+string(kind)+" '")
	if !ok {
		return answer{}, false
	}
	a := answer{argument: argument}
	rest = strings.TrimPrefix(rest, name+"' in vhost '")
	_, values, ok := strings.Cut(rest, "': received ")
	if !ok || len(reason) >= maxReplyBytes && strings.HasSuffix(reason, "...") {
		a.unknown = true
		return a, true
	}
	a.have, a.unknown = currentValue(values, sent(argument))
	return a, true
}

// currentValue reads what comes after "received".
func currentValue(values string, sent any) (have any, unknown bool) {
	if typed, ok := strings.CutPrefix(values, "none but current is the value '"); ok {
		i := strings.LastIndex(typed, "' of type '")
		if i < 0 {
			return nil, true
		}
		return typedValue(typed[:i], strings.TrimSuffix(typed[i+len("' of type '"):], "'"))
	}
	if strings.HasPrefix(values, "the value '") && strings.HasSuffix(values, "' but current is none") {
		return nil, false
	}
	current, ok := strings.CutPrefix(values, "'"+plainValue(sent)+"' but current is '")
	if !ok {
		_, current, ok = strings.Cut(values, "' but current is '")
	}
	if !ok {
		return nil, true
	}
	return guessValue(strings.TrimSuffix(current, "'"), sent), false
}

// typedValue reads a value that comes with the name of its AMQP type.
func typedValue(text, amqpType string) (have any, unknown bool) {
	var err error
	switch amqpType {
	case "longstr":
		return text, false
	case "bool":
		have, err = strconv.ParseBool(text)
	case "double", "float":
		have, err = strconv.ParseFloat(text, 64)
	case "byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint":
		have, err = strconv.ParseInt(text, 10, 64)
	default:
		return nil, true
	}
	if err != nil {
		return nil, true
	}
	return have, false
}

// guessValue reads a value that comes without its type: it most likely has that of the value
// that was sent.
func guessValue(text string, sent any) any {
	switch sent.(type) {
	case int64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case bool:
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	}
	return text
}

// otherType is the value read as another type: what to try when the broker says that '20' is not
// '20'.
func otherType(value any) (any, bool) {
	switch v := value.(type) {
	case int64:
		return strconv.FormatInt(v, 10), true
	case bool:
		return strconv.FormatBool(v), true
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n, true
		}
		if b, err := strconv.ParseBool(v); err == nil {
			return b, true
		}
	}
	return nil, false
}

// plainValue is a value as the broker writes it.
func plainValue(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}
