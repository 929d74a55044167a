#pragma once
// A copy of a real torch_dist checkpoint that a test may damage.

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "core/pickle/crc32.hpp"
#include "core/pickle/zip.hpp"
#include "core/torch_dist/metadata_writer.hpp"

namespace bv::torch_dist {

inline std::string slurp(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spill(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary).write(text.data(), std::ssize(text));
}

class GoldenCopy {
 public:
  GoldenCopy(const std::string& name, const std::filesystem::path& folder) : root(folder / name) {
    const std::filesystem::path from = std::filesystem::path(BV_FIXTURES) / "golden/torch_dist";
    std::filesystem::copy(from / name, root, std::filesystem::copy_options::recursive);
    expected = nlohmann::json::parse(slurp(root / "expected.json"));
    std::filesystem::remove(root / "expected.json");
    iteration = root / "iter_0000000";
  }

  /// What expected.json says of a chunk of a tensor.
  [[nodiscard]] const nlohmann::json& chunk(const std::string& key, std::size_t number) const {
    return expected.at("tensors").at(key).at("chunks").at(number);
  }

  /// Changes the data of one chunk and writes the checksum that fits, as a writer would have.
  void edit(const std::string& key, std::size_t number,
            const std::function<void(std::string&)>& how) const {
    const nlohmann::json& one = chunk(key, number);
    const auto path = iteration / one.at("file").get<std::string>();
    std::string whole = slurp(path);
    const auto offset = one.at("offset").get<std::size_t>();
    std::string item = whole.substr(offset, one.at("length").get<std::size_t>());
    const auto archive = pickle::Archive::open(std::as_bytes(std::span(item)), "f").value();
    const pickle::Record record = *archive.find("data/0");
    std::string data = item.substr(record.begin, record.size);
    how(data);
    item.replace(record.begin, record.size, data);
    const std::uint32_t crc = pickle::crc32(std::as_bytes(std::span(data)));
    const std::string name = archive.folder() + "/data/0";
    const std::size_t entry = item.find(name, item.find("PK\x01\x02")) - 46;
    std::memcpy(item.data() + entry + 16, &crc, sizeof(crc));
    whole.replace(offset, item.size(), item);
    spill(path, whole);
  }

  /// Data of a chunk, as it is now.
  [[nodiscard]] std::string data(const std::string& key, std::size_t number) const {
    const nlohmann::json& one = chunk(key, number);
    const std::string item =
        slurp(iteration / one.at("file").get<std::string>())
            .substr(one.at("offset").get<std::size_t>(), one.at("length").get<std::size_t>());
    const auto archive = pickle::Archive::open(std::as_bytes(std::span(item)), "f").value();
    const pickle::Record record = *archive.find("data/0");
    return item.substr(record.begin, record.size);
  }

  /// Replaces text of .metadata by other text of the same length, everywhere.
  void edit_metadata(const std::string& from, const std::string& to) {
    std::string text = slurp(iteration / ".metadata");
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + 1)) {
      text.replace(at, from.size(), to);
    }
    spill(iteration / ".metadata", text);
  }

  /// Changes what .metadata states, and writes it anew.
  void edit_plan(const std::function<void(Metadata&)>& how) const {
    const std::string text = slurp(iteration / ".metadata");
    Metadata plan = read_metadata(std::as_bytes(std::span(text)), "f").value();
    how(plan);
    spill(iteration / ".metadata", metadata_text(plan, "iter_0000000", ""));
  }

  std::filesystem::path root;
  std::filesystem::path iteration;
  nlohmann::json expected;
};

}  // namespace bv::torch_dist
