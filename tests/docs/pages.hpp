#pragma once
// Reads the pages of docs/: their headings, tables and what the tree says of itself.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace bv::docs {

/// Relative to the repository: "docs/howto/add-a-family.md".
[[nodiscard]] std::string read(const std::filesystem::path& path);

/// Files under `folders` that are text of ours: sources, build files, data, pages. Neither goldens
/// of other libraries nor saved inputs. Relative, in byte order.
[[nodiscard]] std::vector<std::string> text_files(const std::vector<std::string>& folders);

/// The anchors of a page: "value-rules" for "## Value rules".
[[nodiscard]] std::set<std::string> anchors(const std::string& page);

/// The text under a heading of any level, up to the next one of the same or a higher level.
[[nodiscard]] std::string section(const std::string& page, const std::string& heading);

/// Rows of the first table in a text, cells trimmed, without head and rule; `\|` is a bar.
[[nodiscard]] std::vector<std::vector<std::string>> table(const std::string& text);

/// "`x`" -> "x".
[[nodiscard]] std::string code(const std::string& cell);

/// Words of a cell between backticks.
[[nodiscard]] std::vector<std::string> quoted(const std::string& cell);

/// "Suite.Name" of every test of the repository.
[[nodiscard]] const std::set<std::string>& test_names();

/// "a/b.{hpp,cpp}" -> a/b.hpp, a/b.cpp.
[[nodiscard]] std::vector<std::string> expanded(const std::string& path);

}  // namespace bv::docs
