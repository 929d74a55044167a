#pragma once
// Texts of the repository that output is compared with.

#include <string>

namespace bv::support {

/// Compares with fixtures/text/NAME.txt; BV_UPDATE_TEXT=1 in the environment writes it instead.
void expect_golden(const std::string& name, const std::string& text);

}  // namespace bv::support
