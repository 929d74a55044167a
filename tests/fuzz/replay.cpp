// The entry of a fuzz target without a fuzzer: every file of its corpus, and a fixed set of byte
// mutations of each, so that any compiler and CI run the same code.
//   bv_fuzz_TARGET CORPUS DICTIONARY MUTATIONS
// A crash leaves its input in ./fuzz-crash-TARGET.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "properties/attacks/generators/random.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;
using bv::generators::Random;

constexpr std::size_t kBytesMax = 8192;
constexpr std::uint64_t kChangesMax = 4;

std::string crash_file;
std::string current;  // the input that is running

extern "C" void leave_input(int signal) {
  std::ofstream(crash_file, std::ios::binary)
      .write(current.data(), static_cast<std::streamsize>(current.size()));
  std::fprintf(stderr, "signal %d: the input is in %s\n", signal, crash_file.c_str());
  std::_Exit(1);
}

std::string text_of(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

std::vector<std::string> corpus_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> out;
  for (const fs::path& file : files) {
    out.push_back(text_of(file));
  }
  return out;
}

/// The words of a libFuzzer dictionary: "text" or name="text" a line, \xNN escapes.
std::vector<std::string> words_of(const fs::path& file) {
  std::vector<std::string> out;
  std::istringstream lines(text_of(file));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t begin = line.find('"');
    const std::size_t end = line.rfind('"');
    if (line.starts_with('#') || begin == std::string::npos || end <= begin) {
      continue;
    }
    std::string word;
    for (std::size_t i = begin + 1; i < end; ++i) {
      const bool escaped = line.compare(i, 2, "\\x") == 0 && i + 4 <= end;
      word += escaped ? static_cast<char>(std::stoi(line.substr(i + 2, 2), nullptr, 16)) : line[i];
      i += escaped ? 3 : 0;
    }
    out.push_back(std::move(word));
  }
  return out;
}

class Mutator {
 public:
  Mutator(const std::vector<std::string>& corpus, const std::vector<std::string>& words)
      : corpus_(corpus), words_(words) {}

  std::string changed(std::string text, std::uint64_t seed) const {
    Random random(seed);
    for (std::uint64_t left = 1 + random.below(kChangesMax); left > 0; --left) {
      change(text, random);
    }
    text.resize(std::min(text.size(), kBytesMax));
    return text;
  }

 private:
  void change(std::string& text, Random& random) const {
    const std::size_t at = random.below(text.size() + 1);
    const std::size_t length = random.below(std::min<std::size_t>(text.size() - at, 32) + 1);
    switch (random.below(8)) {
      case 0:
        if (at < text.size()) {
          text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        }
        break;
      case 1:
        if (at < text.size()) {
          text[at] = static_cast<char>(random.below(256));
        }
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, std::string(text, at, length));
        break;
      case 4:
        text.resize(at);
        break;
      case 5:
        text.insert(at, words_.empty() ? "" : words_[random.below(words_.size())]);
        break;
      case 6:
        text.replace(at, length, words_.empty() ? "" : words_[random.below(words_.size())]);
        break;
      default: {
        const std::string& other = corpus_[random.below(corpus_.size())];
        text = text.substr(0, at) + other.substr(random.below(other.size() + 1));
      }
    }
  }

  const std::vector<std::string>& corpus_;
  const std::vector<std::string>& words_;
};

/// In a buffer of its own size, so that a sanitizer sees a read behind its end.
void run(const std::string& input) {
  current = input;
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s CORPUS DICTIONARY MUTATIONS\n", argv[0]);
    return 2;
  }
  crash_file = "fuzz-crash-" + fs::path(argv[0]).filename().string();
  std::signal(SIGABRT, leave_input);
  std::signal(SIGSEGV, leave_input);
  const std::vector<std::string> corpus = corpus_of(argv[1]);
  const std::vector<std::string> words = words_of(argv[2]);
  const std::uint64_t mutations = std::stoull(argv[3]);
  const Mutator mutator(corpus, words);
  std::uint64_t runs = 0;
  for (std::size_t i = 0; i < corpus.size(); ++i) {
    run(corpus[i]);
    for (std::uint64_t m = 0; m < mutations; ++m) {
      run(mutator.changed(corpus[i], (static_cast<std::uint64_t>(i) << 32U) + m));
    }
    runs += mutations + 1;
  }
  std::printf("%zu files, %llu inputs\n", corpus.size(), static_cast<unsigned long long>(runs));
  return corpus.empty() || words.empty() ? 1 : 0;
}
