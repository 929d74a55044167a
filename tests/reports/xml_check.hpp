#pragma once
// A reader of XML that knows what a report of tests may hold, and nothing else.

#include <cctype>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bv::reports::testing {

struct XmlNode {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;
  std::vector<XmlNode> children;

  [[nodiscard]] std::vector<const XmlNode*> all(std::string_view wanted) const {
    std::vector<const XmlNode*> out;
    for (const XmlNode& child : children) {
      if (child.name == wanted) {
        out.push_back(&child);
      }
      const auto inner = child.all(wanted);
      out.insert(out.end(), inner.begin(), inner.end());
    }
    return out;
  }
};

/// Well-formed XML 1.0 without DTD, comments and CDATA; `fault` says why not.
class XmlReader {
 public:
  explicit XmlReader(std::string_view text) : text_(text) {}

  XmlNode read() {
    XmlNode root;
    take("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element(root);
    blanks();
    if (at_ != text_.size()) {
      refuse("text behind the end");
    }
    return root;
  }
  std::string fault;

 private:
  void refuse(const std::string& why) {
    if (fault.empty()) {
      fault = why + " at byte " + std::to_string(at_);
    }
    at_ = text_.size();
  }
  [[nodiscard]] bool next(std::string_view word) const {
    return text_.substr(at_).starts_with(word);
  }
  void take(std::string_view word) {
    if (next(word)) {
      at_ += word.size();
    } else {
      refuse("no \"" + std::string(word) + "\"");
    }
  }
  void blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) {
      ++at_;
    }
  }
  std::string word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 ||
                                  text_[at_] == '-' || text_[at_] == '_')) {
      ++at_;
    }
    if (begin == at_) {
      refuse("no name");
    }
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string characters(std::string_view stop) {
    std::string out;
    while (at_ < text_.size() && stop.find(text_[at_]) == std::string_view::npos) {
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f || byte == '>' ||
          byte == '<') {
        refuse("a character that XML does not hold");
      } else if (byte == '&') {
        bool known = false;
        for (const auto& [entity, meaning] :
             {std::pair("&amp;", '&'), std::pair("&lt;", '<'), std::pair("&gt;", '>'),
              std::pair("&quot;", '"'), std::pair("&#39;", '\'')}) {
          if (!known && next(entity)) {
            out += meaning;
            at_ += std::string_view(entity).size();
            known = true;
          }
        }
        if (!known) {
          refuse("an unknown entity");
        }
      } else {
        out += text_[at_++];
      }
    }
    return out;
  }
  void element(XmlNode& node) {
    take("<");
    node.name = word();
    while (next(" ")) {
      blanks();
      const std::string key = word();
      take("=\"");
      if (!node.attributes.emplace(key, characters("\"")).second) {
        refuse("an attribute twice");
      }
      take("\"");
    }
    if (next("/>")) {
      at_ += 2;
      return;
    }
    take(">");
    while (at_ < text_.size()) {
      node.text += characters("<");
      if (next("</")) {
        break;
      }
      if (at_ < text_.size()) {
        element(node.children.emplace_back());
      }
    }
    take("</" + node.name + ">");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace bv::reports::testing
