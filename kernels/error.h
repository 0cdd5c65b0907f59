#pragma once
#include <stdexcept>

namespace stamp {

/// A failure at run time: a device, the operating system, memory. The program exits with code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bad usage or a bad input file. The message is one line that names the file or flag and says what to do.
/// The program exits with code 2.
class InputError : public Error {
 public:
  using Error::Error;
};

}  // namespace stamp
