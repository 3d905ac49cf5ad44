// Reads an interface description (varlink.org/Interface-Definition), whole grammar, so that a mistake in a
// .varlink file fails the service's unit test and not the first client that asks for the description. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::varlink {

struct InterfaceTable;

struct Field;

struct Type {
    enum class Kind { Bool, Int, Float, String, Object, Named, Struct, Enumeration, Optional, List, Map };
    Kind kind = Kind::Struct;
    std::string name;                // Named: the type's
    std::vector<Type> inner;         // Optional, List, Map: exactly one
    std::vector<Field> fields;       // Struct
    std::vector<std::string> values; // Enumeration
};

struct Field {
    std::string name;
    Type type;
};

// comment: the lines of "#" right above, without the "#".
struct MethodForm {
    std::string name, comment;
    std::vector<Field> in, out;
};
struct Declared { // a type or an error
    std::string name, comment;
    Type type;
};

struct Description {
    std::string interface, comment;
    std::vector<MethodForm> methods;
    std::vector<Declared> errors, types;
};

// The error names the line.
Result<Description> parse_description(std::string_view text);

// For each service's unit test: the description is well-formed, it is of this interface, and its methods are
// those of the table, each with a handler.
Result<> check_interface(const InterfaceTable& table);

} // namespace nullbox::varlink
