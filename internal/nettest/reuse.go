package nettest

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"unsafe"
)

// Dirty sets every field of what v points to, unexported and nested ones too, to something
// that is not zero, so that a test sees which are reset without knowing their names. values
// are for fields of interface types, whichever fits. Mutexes are left alone.
func Dirty(t testing.TB, v any, values ...any) {
	t.Helper()
	values = append(values, errors.New("dirty"), context.Background())
	p := reflect.ValueOf(v)
	dirty(t, p.Elem(), p.Elem().Type().String(), values)
}

func dirty(t testing.TB, v reflect.Value, path string, values []any) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if isMutex(v.Type()) {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "_" {
				dirty(t, open(v.Field(i)), path+"."+f.Name, values)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			dirty(t, v.Index(i), path, values)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(1)
	case reflect.String:
		v.SetString("dirty")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Chan:
		v.Set(reflect.MakeChan(v.Type(), 0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.UnsafePointer:
		v.Set(reflect.ValueOf(unsafe.Pointer(new([1 << 12]byte))))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { panic("a function that was never set") }))
	case reflect.Interface:
		for _, value := range values {
			if reflect.TypeOf(value).AssignableTo(v.Type()) {
				v.Set(reflect.ValueOf(value))
				return
			}
		}
		t.Fatalf("%s: give Dirty a value of the type %s", path, v.Type())
	default:
		t.Fatalf("%s: Dirty does not know %s", path, v.Type())
	}
}

// Left names the fields in which a and b, pointers to the same type of struct, differ.
// Slices without elements are alike, and so are functions that are both set.
func Left(a, b any) (names []string) {
	return left(nil, reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "")
}

func left(names []string, a, b reflect.Value, path string) []string {
	same := true
	switch a.Kind() {
	case reflect.Struct:
		if isMutex(a.Type()) {
			return names
		}
		for i := range a.NumField() {
			if f := a.Type().Field(i); f.Name != "_" {
				name := f.Name
				if path != "" {
					name = path + "." + name
				}
				names = left(names, open(a.Field(i)), open(b.Field(i)), name)
			}
		}
		return names
	case reflect.Array:
		for i := range a.Len() {
			names = left(names, a.Index(i), b.Index(i), path)
		}
		return names
	case reflect.Interface: // not what they point to
		same = a.IsNil() == b.IsNil() && (a.IsNil() || a.Comparable() && b.Comparable() && a.Equal(b))
	case reflect.Func:
		same = a.IsNil() == b.IsNil()
	case reflect.Slice:
		same = a.Len()+b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface())
	case reflect.Pointer, reflect.UnsafePointer:
		same = a.Pointer() == b.Pointer()
	default:
		same = reflect.DeepEqual(a.Interface(), b.Interface())
	}
	if !same {
		names = append(names, path)
	}
	return names
}

// open makes an unexported field one that can be read and set.
func open(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

func isMutex(t reflect.Type) bool {
	return t == reflect.TypeFor[sync.Mutex]() || t == reflect.TypeFor[sync.RWMutex]()
}
