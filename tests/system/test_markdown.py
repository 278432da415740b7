from thawlab.system.markdown import code, plain


def test_a_name_makes_no_link_picture_cell_or_element():
    assert plain("![x](http://y) | <b>&*_`$") == r"!\[x\](http://y) \| &lt;b>&amp;\*\_\`\$"
    assert plain("two\nlines") == "two lines"


def test_code_is_not_ended_by_what_stands_in_it():
    assert code("freeze=2") == "`freeze=2`"
    assert code("a `b` ``c") == "```a `b` ``c```"
    assert code("`a") == "`` `a ``"
