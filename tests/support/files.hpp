#pragma once
// Files of tests: folders that go away, texts, JSON, safetensors bytes from a header text, and
// where the goldens are.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace bv::support {

/// A folder of its own for one test, deleted at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }
  /// The file of this name below the folder, written.
  std::filesystem::path write(const std::string& name, std::string_view bytes) const;

 private:
  std::filesystem::path path_;
};

/// All bytes of a file. One that cannot be read fails the test.
[[nodiscard]] std::string file_text(const std::filesystem::path& file);
/// Makes the folders above, too.
void write_text(const std::filesystem::path& file, std::string_view text);
/// Files below `folder` by name relative to it.
[[nodiscard]] std::vector<std::string> files_below(const std::filesystem::path& folder);
/// The document of a file; not JSON is an exception, which fails the test.
[[nodiscard]] nlohmann::json read_json(const std::filesystem::path& file);

/// The 8 bytes that a safetensors file begins with.
[[nodiscard]] std::string length_word(std::uint64_t length);
/// Length word, header, and `data` bytes 0, 1, 2, ...
[[nodiscard]] std::string safetensors(std::string_view header, std::size_t data);

/// fixtures/golden and below.
[[nodiscard]] std::filesystem::path golden(const std::string& part = "");
[[nodiscard]] std::filesystem::path golden_hf(const std::string& name);
/// Names of all HF goldens, sorted.
[[nodiscard]] std::vector<std::string> golden_cases();
/// Files of runs of the real Megatron-Bridge, relative to fixtures/golden/megatron, sorted.
[[nodiscard]] std::vector<std::string> golden_runs();

/// A file of fixtures/.
[[nodiscard]] std::string fixture(const std::string& part);

/// A copy of a golden HF model that a test may damage.
struct ModelCopy {
  explicit ModelCopy(const std::string& name, const std::string& as = "m");
  TempFolder temp;
  std::filesystem::path folder;
};

}  // namespace bv::support
