// Methods of io.nullbox.cage that have a file of their own, and what they share with interface.cpp, which has
// the table. Internal to the interface.
#pragma once

#include "cage/cage.h"
#include "varlink/parameters.h"
#include "varlink/server.h"

namespace nullbox::cage {

// The agent of the call's "name", or nothing after the call has been answered. Finishes the parameters.
Agent* agent_of(Cage& cage, varlink::Call& call, varlink::Parameters& parameters, const std::string& name);

// exec_methods.cpp
void exec(Cage& cage, varlink::Call call);
void copy(Cage& cage, varlink::Call call);

} // namespace nullbox::cage
