// The page of the architecture: its picture is what ci/graph draws now, and its worked example is
// what the notation gives.

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "core/kinds/catalogue.hpp"
#include "core/layout/box.hpp"
#include "tests/docs/pages.hpp"

namespace bv::docs {
namespace {

namespace fs = std::filesystem;

/// Exit code and text of `python3 ci/graph --check` on a tree. Without python3 this is a failure,
/// and says so: a picture that nobody compares is worth nothing.
struct Answer {
  int code = 0;
  std::string text;
};
Answer check_picture(const fs::path& root) {
  const fs::path log = fs::temp_directory_path() / ("bv_graph_" + std::to_string(::getpid()));
  const std::string command = "python3 '" + (fs::path(BV_ROOT) / "ci/graph").string() +
                              "' --check --root '" + root.string() + "' > '" + log.string() +
                              "' 2>&1";
  const int status = std::system(command.c_str());
  Answer out{status == 0 ? 0 : 1, read(log)};
  fs::remove(log);
  return out;
}

/// A copy of the sources and of the page, removed at the end.
class Tree {
 public:
  Tree() : root_(fs::temp_directory_path() / ("bv_tree_" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    for (const char* top : {"core", "oracles", "properties", "reports", "fixtures/maker", "ci"}) {
      for (const auto& entry : fs::recursive_directory_iterator(fs::path(BV_ROOT) / top)) {
        const std::string extension = entry.path().extension().string();
        if (entry.is_regular_file() && (extension == ".cpp" || extension == ".hpp")) {
          copy(fs::relative(entry.path(), BV_ROOT));
        }
      }
    }
    copy("docs/reference/architecture.md");
    copy("docs/reference/architecture.svg");
  }
  ~Tree() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  [[nodiscard]] const fs::path& root() const { return root_; }
  void append(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::app) << text;
  }

 private:
  void copy(const fs::path& file) const {
    fs::create_directories((root_ / file).parent_path());
    fs::copy_file(fs::path(BV_ROOT) / file, root_ / file);
  }
  fs::path root_;
};

TEST(ArchitecturePicture, IsWhatCiGraphDrawsNow) {
  const Answer answer = check_picture(BV_ROOT);
  EXPECT_EQ(answer.code, 0) << answer.text << "(this test needs python3)";
}

TEST(ArchitecturePicture, ANewArrowMakesItOld) {
  const Tree tree;
  ASSERT_EQ(check_picture(tree.root()).code, 0);
  tree.append("core/verdict/new.cpp", "#include \"core/layout/box.hpp\"\n");
  EXPECT_EQ(check_picture(tree.root()).text,
            "ci/graph: docs/reference/architecture.svg is not what the #include lines say now: run "
            "ci/graph\n");
}

TEST(ArchitecturePicture, ARoomWithoutARowIsNamed) {
  const Tree tree;
  tree.append("core/newroom/new.cpp", "#include \"core/base/result.hpp\"\n");
  EXPECT_EQ(check_picture(tree.root()).text,
            "ci/graph: docs/reference/architecture.md: the table of rooms has no row for "
            "core/newroom\n");
}

TEST(ArchitecturePicture, ACircleOfRoomsIsNamed) {
  const Tree tree;
  tree.append("core/layout/new.cpp", "#include \"core/kinds/catalogue.hpp\"\n");
  EXPECT_NE(check_picture(tree.root()).text.find("core/kinds -> core/layout -> core/kinds"),
            std::string::npos)
      << check_picture(tree.root()).text;
}

std::string text_of(const layout::BoxAxes& axes) {
  std::string out;
  for (const layout::BoxAxis& axis : axes) {
    out += (out.empty() ? "" : " ") + ("(" + std::to_string(axis.extent) + ", ") +
           std::to_string(axis.source_stride) + ", " + std::to_string(axis.target_stride) + ")";
  }
  return out;
}

TEST(ArchitectureExample, TheBoxesOfTheWorkedExampleAreThoseOfTheNotation) {
  const std::string page = section(read("docs/reference/architecture.md"), "Central types");
  const auto catalogue = kinds::load_catalogue();
  ASSERT_TRUE(catalogue);
  const auto bound = layout::BoundRule::bind(*catalogue->find("qkv"),
                                             {{{"g", 2}, {"n", 2}, {"d", 2}, {"t", 2}}, {3}});
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->source_shapes(), (std::vector<Shape>{{8, 3}, {4, 3}, {4, 3}}));
  const layout::Shard shard = bound->shard(0, {{"t", 1}});
  EXPECT_EQ(shard.shape, (Shape{8, 3}));
  std::vector<std::vector<std::string>> found;
  for (const layout::Box& box : shard.boxes) {
    found.push_back({bound->part_names()[static_cast<std::size_t>(box.part)],
                     std::to_string(box.source), std::to_string(box.source_offset),
                     std::to_string(box.target_offset), text_of(box.axes)});
  }
  EXPECT_EQ(table(page), found);
  EXPECT_EQ(layout::source_of(shard.boxes[1], 13), 7);
}

}  // namespace
}  // namespace bv::docs
