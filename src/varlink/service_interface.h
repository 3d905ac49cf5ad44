// org.varlink.service: what every Varlink service answers about itself (varlink.org/Service). Internal.
#pragma once

#include <string_view>

namespace nullbox::varlink {

constexpr std::string_view kServiceInterface = "org.varlink.service";
constexpr std::string_view kServiceDescription =
    R"(# The Varlink service interface, which every service has. NullBox's services add an error for callers
# that may not call a method, and one for methods that answer more than once.
interface org.varlink.service

# Who the service is, and which interfaces it has.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The description of one interface.
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string, message: ?string)
error PermissionDenied (method: string, uid: int, message: string)
error ExpectedMore (message: string)
)";

} // namespace nullbox::varlink
