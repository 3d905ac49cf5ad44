// The box's own key: made at the first start, kept in gate's folder. Clients know the box by its fingerprint,
// which the console shows.
#pragma once

#include "net/identity.h"

namespace nullbox::gate {

// A file that holds no key is put aside as <path>.bad and a new one is made: clients see that the box is
// another one, and only its console can say that it is not. Without that nobody could come in any more.
Result<net::Identity> box_key(const std::string& path);

} // namespace nullbox::gate
